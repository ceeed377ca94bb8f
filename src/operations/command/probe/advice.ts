import { hasReason } from '../../../oci/error.ts';
import type { RecordedExchange } from '../../../upstream/recorder.ts';

/** The facts that advice is made of. */
export interface AdviceContext {
  readonly upstream: string;
  readonly url: URL;
  /** Whether the configuration has credentials for it. */
  readonly hasCredential: boolean;
  readonly exchanges: readonly RecordedExchange[];
}

/** Codes of Node for a certificate whose authority is not known. */
const unknownAuthority: ReadonlySet<string> = new Set([
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
]);

/** The advice about a step that has failed; `undefined` where nothing general helps. */
export function adviceFor(error: unknown, context: AdviceContext): string | undefined {
  const { upstream, url } = context;
  const last = context.exchanges.at(-1);
  const code = last?.error ?? undefined;
  const key = `upstreams.${upstream}`;
  if (code !== undefined) return connectionAdvice(code, { key, url });
  if (hasReason(error, 'forbidden-address')) {
    return 'it leads to an address in a private network; only an upstream that is itself configured by such an address may';
  }
  const realm = realmOf(last);
  // A realm that was named and not asked is of another domain: nothing of ours goes there.
  if (last?.status === 401 && realm && !context.exchanges.some((one) => addressOf(one.url) === addressOf(realm.href))) {
    return `${key}.tokenRealms: [${realm.host}], if that is where the registry's tokens come from`;
  }
  switch (last?.status ?? 0) {
    case 401:
    case 403:
      return context.hasCredential
        ? `the registry does not accept what ${key}.auth gives for this repository: check user, password and rights`
        : `${key}.auth: { username: …, passwordFile: … }`;
    case 404:
      return `the registry does not have it, or hides it without credentials; a registry below a path needs that in ${key}.urls`;
    case 429:
      return context.hasCredential
        ? `${key}.rateLimitFloor: 10 keeps the last pulls for what is not stored`
        : `${key}.auth: { username: …, passwordFile: … } raises the limit of most registries`;
    default:
      return undefined;
  }
}

/** The token service that an answer names. */
export function realmOf(exchange: RecordedExchange | undefined): URL | null {
  const realm = /\brealm=(\S+)/.exec(exchange?.headers['www-authenticate'] ?? '')?.[1];
  return realm === undefined ? null : URL.parse(realm);
}

/** An address without what follows its path. */
export function addressOf(url: string): string {
  return url.split('?', 1)[0] ?? '';
}

function connectionAdvice(code: string, { key, url }: { readonly key: string; readonly url: URL }): string | undefined {
  const other = `${url.protocol === 'https:' ? 'http' : 'https'}://${url.host}${url.pathname === '/' ? '' : url.pathname}`;
  if (unknownAuthority.has(code)) return `${key}.tls: { caFile: /path/of/the/authority.pem }`;
  if (code === 'CERT_HAS_EXPIRED') return 'the certificate of the server has expired: it has to be renewed there';
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    return `the certificate is for another name: use that name in ${key}.urls`;
  }
  if (code === 'ERR_SSL_WRONG_VERSION_NUMBER' || code === 'EPROTO' || code === 'ERR_SSL_PACKET_LENGTH_TOO_LONG') {
    return `the server does not speak TLS there: ${key}.urls: [${other}]`;
  }
  if (/TLSV1_ALERT|SSLV3_ALERT|CERTIFICATE_REQUIRED/.test(code)) {
    return `the server may want a client certificate: ${key}.tls: { certFile: …, keyFile: … }`;
  }
  if (code.startsWith('HPE_') || (code === 'ECONNRESET' && url.protocol === 'http:')) {
    return `the server does not speak plain http there: ${key}.urls: [${other}]`;
  }
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') {
    return `check the name in ${key}.urls and the DNS of this machine; where only a proxy leads out, set HTTPS_PROXY`;
  }
  if (code === 'ECONNREFUSED') return `nothing listens there: check the port in ${key}.urls`;
  if (code.startsWith('ERR_PROXY_')) return 'check HTTPS_PROXY and HTTP_PROXY, or add the host to NO_PROXY';
  if (code === 'ERR_FORBIDDEN_ADDRESS') {
    return 'it leads to an address in a private network; only an upstream that is itself configured by such an address may';
  }
  if (code === 'ExchangeTimeoutError' || code === 'ETIMEDOUT' || code === 'EHOSTUNREACH' || code === 'ENETUNREACH') {
    return `check routes and firewalls; where only a proxy leads out, set HTTPS_PROXY. Slow links: ${key}.timeouts`;
  }
  return undefined;
}
