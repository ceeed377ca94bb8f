import { readManifest } from '../../../oci/descriptor.ts';
import { type Digest, digestAlgorithm } from '../../../oci/digest.ts';
import { RegistryError } from '../../../oci/error.ts';
import { bareMediaType, manifestMediaTypes } from '../../../oci/media-types.ts';
import type { RecordedExchange } from '../../../upstream/recorder.ts';
import type { EndpointStatus } from '../../../upstream/upstream.ts';
import { type Finding, failed, ok, warning } from './steps.ts';

/** The session of a connection to the upstream. */
export function tlsFinding(exchanges: readonly RecordedExchange[]): Finding {
  const { tls, error } = exchanges.find((exchange) => exchange.tls !== null) ?? { tls: null, error: null };
  if (!tls) {
    const failure = exchanges.at(-1)?.error ?? null;
    return failure === null ? ok('used a connection that was there') : failed(`no session (${failure})`);
  }
  const text = `${tls.protocol ?? 'a session'}, certificate of ${tls.subject ?? 'no subject'} by ${tls.issuer ?? 'no issuer'}, until ${tls.validTo ?? 'unknown'}`;
  if (error !== null) return failed(`${text}: refused (${error})`);
  const leftMs = Date.parse(tls.validTo ?? '') - Date.now();
  return leftMs < 14 * 86_400_000 ? warning(text, 'the certificate expires within two weeks') : ok(text);
}

/** The worth of HEAD: where it fails, the client asks by GET. @param options `isHere`: whether GET gives it */
export function headFinding(
  found: Finding & { readonly exchanges: readonly RecordedExchange[] },
  { isHere, instead }: { readonly isHere: boolean; readonly instead: string },
): Finding {
  const status = found.exchanges.findLast(({ method }) => method === 'HEAD')?.status ?? 200;
  if (!isHere || (found.result !== 'failed' && status === 200)) return found;
  return warning(`HEAD is refused (${status}) and GET is not: ${instead}`);
}

/** A manifest's digest, held against what the registry says. */
export function digestFinding(
  digest: Digest,
  { expected, head }: { readonly expected: Digest | undefined; readonly head: Digest | undefined },
): Finding {
  if (expected !== undefined && expected !== digest && digestAlgorithm(expected) === digestAlgorithm(digest)) {
    return failed(`the body is ${digest}, and the registry says ${expected}`, 'something on the way alters bodies');
  }
  if (head !== undefined && head !== digest && digestAlgorithm(head) === digestAlgorithm(digest)) {
    return warning(`the body is ${digest}, and HEAD said ${head}: the tag has moved, or HEAD is answered from a cache`);
  }
  const said =
    expected === undefined
      ? 'Docker-Content-Digest is not sent, so that tags are resolved by GET'
      : 'as the registry says';
  return ok(`${digest}, ${said}`);
}

/** A manifest's type, held against its body. */
export function typeFinding({ bytes, contentType }: { readonly bytes: Buffer; readonly contentType: string }): Finding {
  const type = bareMediaType(contentType);
  try {
    const { mediaType } = readManifest(bytes, contentType);
    if (type === mediaType) return ok(type);
    const text = `Content-Type is ${contentType === '' ? 'missing' : contentType}, and the body is ${mediaType || 'a manifest'}`;
    return manifestMediaTypes.includes(type) ? ok(text) : warning(text);
  } catch (error) {
    if (!(error instanceof RegistryError)) throw error;
    const advice = 'a proxy or a login page may answer in place of the registry';
    return failed(`${contentType}: ${error.message}`, type === 'text/html' ? advice : undefined);
  }
}

/** Where blobs come from. */
export function redirectsFinding(exchanges: readonly RecordedExchange[], own: URL): Finding {
  const hosts = new Set(exchanges.map(({ url }) => new URL(url).host).filter((host) => host !== own.host));
  if (hosts.size === 0) return ok('none: blobs come from the registry itself');
  return ok(`blobs come from ${[...hosts].join(', ')}, which a firewall has to let through`);
}

/** The limits that the registry has told. */
export function limitsFinding(exchanges: readonly RecordedExchange[]): Finding {
  const limited = exchanges.find(({ status }) => status === 429);
  if (limited) {
    const after = limited.headers['retry-after'];
    return warning(`requests are limited (429${after === undefined ? '' : `, try again after ${after} s`})`);
  }
  const { headers } = exchanges.findLast((exchange) => 'ratelimit-remaining' in exchange.headers) ?? {};
  if (headers === undefined) return ok('none announced');
  return ok(`${headers['ratelimit-remaining']} left of ${headers['ratelimit-limit'] ?? 'an unknown number'}`);
}

/** A number of bytes with its noun. */
export function bytesText(bytes: number): string {
  return `${bytes} ${bytes === 1 ? 'byte' : 'bytes'}`;
}

/** The profile of the registry that the client has learned. */
export function behaviourFinding(traits: EndpointStatus['traits']): Finding {
  const found = Object.entries(traits).map(([trait, { value, from }]) => `${trait} ${value} (${from})`);
  return ok(found.length === 0 ? 'as registries usually behave' : found.join(', '));
}
