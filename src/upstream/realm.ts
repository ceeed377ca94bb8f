import { createRequire } from 'node:module';
import { unavailable } from './failures.ts';
import { tenantOf } from './tenants.ts';

const require = createRequire(import.meta.url);
/** With the list of public suffixes: read when the first registry names a realm on another host than its own. */
const domains = () => require('tldts') as typeof import('tldts');

export interface RealmOptions {
  /** Name of the upstream, for the error message. */
  readonly upstream: string;
  readonly endpoint: URL;
  /** Hosts, with or without port, that may receive this upstream's credentials in addition to its own domain. */
  readonly tokenRealms: readonly string[];
}

/**
 * Checks whether a realm in a challenge may be asked for a token. A registry that could name any realm could direct its
 * clients' credentials anywhere (the class of CVE-2020-15157 and CVE-2026-33540).
 * @throws RegistryError UNAVAILABLE, which names the realm's host and the setting; no connection has been made
 */
export function trustedRealm(realm: string, { upstream, endpoint, tokenRealms }: RealmOptions): URL {
  // A path alone is one of the endpoint itself.
  const url = /^\/(?!\/)/.test(realm) ? URL.parse(realm, endpoint.origin) : URL.parse(realm);
  if (
    url === null ||
    (url.protocol !== 'https:' && url.protocol !== 'http:') ||
    url.username !== '' ||
    url.password !== ''
  ) {
    throw unavailable(upstream, 'names a token realm that is not a plain http or https address');
  }
  if (endpoint.protocol === 'https:' && url.protocol !== 'https:') {
    throw unavailable(upstream, `names the token realm ${url.host} without https, which is refused`);
  }
  const isTrusted = isSameDomain(url.hostname, endpoint.hostname) && isSamePort(url, endpoint);
  if (!isTrusted && !isListed(url, tokenRealms)) {
    throw unavailable(
      upstream,
      `names the token realm ${url.host}, which is not of its domain; if it is to be trusted, add it to upstreams.${upstream}.tokenRealms`,
    );
  }
  url.hash = '';
  return url;
}

// Private suffixes count as public ones: two tenants of github.io or of a cloud are different parties. Addresses,
// localhost and names without a suffix have no registrable domain and must be equal.
function isSameDomain(realmHost: string, endpointHost: string): boolean {
  if (realmHost === endpointHost) return true;
  const domain = domainOf(realmHost);
  return domain !== null && domain === domainOf(endpointHost);
}

function domainOf(host: string): string | null {
  return tenantOf(host) ?? domains().getDomain(host, { allowPrivateDomains: true });
}

// Another port of a host may be anyone's service. The usual port is that of the site that the registry belongs to: a
// GitLab at gitlab.example with its registry at gitlab.example:5050.
function isSamePort(realm: URL, endpoint: URL): boolean {
  return realm.port === '' || realm.port === endpoint.port;
}

function isListed(url: URL, tokenRealms: readonly string[]): boolean {
  return tokenRealms.some((entry) => entry.toLowerCase() === url.hostname || entry.toLowerCase() === url.host);
}
