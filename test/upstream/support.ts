import { parseDigest } from '../../src/oci/digest.ts';
import { RegistryError } from '../../src/oci/error.ts';
import { Authorities } from '../../src/transport/authorities.ts';
import { Proxies } from '../../src/transport/proxies.ts';
import type { BlobAnswer } from '../../src/upstream/client.ts';
import { createUpstream, type OwnedUpstream } from '../../src/upstream/create-upstream.ts';
import { credentialSource } from '../../src/upstream/credentials/create-source.ts';
import type { Credential, CredentialContext } from '../../src/upstream/credentials/credential.ts';
import type { CredentialOptions } from '../../src/upstream/credentials/options.ts';
import { ServiceClient } from '../../src/upstream/credentials/service-client.ts';
import type { CredentialSource } from '../../src/upstream/credentials/source.ts';
import type { UpstreamOptions } from '../../src/upstream/options.ts';

export const accept = ['application/vnd.oci.image.manifest.v1+json', 'application/vnd.oci.image.index.v1+json'];
export const unknownDigest = parseDigest(`sha256:${'0'.repeat(64)}`);

/** An upstream called docker.io at the given URLs, with no proxy. */
export function upstreamAt(
  urls: string | readonly string[],
  options: Partial<Omit<UpstreamOptions, 'urls'>> = {},
): OwnedUpstream {
  return createUpstream({
    name: 'docker.io',
    urls: typeof urls === 'string' ? [urls] : urls,
    freshness: { tagTtlMs: 60_000, staleIfErrorMs: 0, negativeTtlMs: 0 },
    environment: {},
    ...options,
  });
}

/** A source that ends with its connections. */
export function sourceAt(
  options: CredentialOptions,
  context: CredentialContext & { readonly endpoint?: URL; readonly now?: () => number },
): CredentialSource & Disposable {
  const { environment, host } = context;
  const services = new ServiceClient({ proxies: new Proxies({}), authorities: new Authorities(environment) });
  const parts = { now: Date.now, endpoint: new URL(`http://${host}`), ...context, services };
  return { ...credentialSource(options, parts), [Symbol.dispose]: () => services[Symbol.dispose]() };
}

/** The credential that a source gives at its first use. */
export async function readCredential(
  options: CredentialOptions,
  context: CredentialContext,
): Promise<Credential | undefined> {
  using source = sourceAt(options, context);
  return await source.get({ signal: never() });
}

/** A signal that is never aborted. */
export function never(): AbortSignal {
  return new AbortController().signal;
}

export async function bytesOf(answer: Pick<BlobAnswer, 'body'>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of answer.body) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** The RegistryError that a call fails with. */
export async function failureOf(call: Promise<unknown>): Promise<RegistryError> {
  try {
    await call;
  } catch (error) {
    if (error instanceof RegistryError) return error;
    throw error;
  }
  throw new Error('the call did not fail');
}
