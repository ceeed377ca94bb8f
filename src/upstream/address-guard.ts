import { type LookupAddress, type LookupAllOptions, lookup } from 'node:dns';
import { isIP, type LookupFunction } from 'node:net';
import ipaddr from 'ipaddr.js';

/** The system's name resolution; returns all addresses. */
export type SystemLookup = (
  hostname: string,
  options: LookupAllOptions,
  callback: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void;

/** A redirect or token realm leads to an address that the upstream may not direct the mirror to. */
export class ForbiddenAddressError extends Error {
  override readonly name = 'ForbiddenAddressError';
  readonly code = 'ERR_FORBIDDEN_ADDRESS';
}

/** Guarded kinds of addresses; each lists those it may lead to if an upstream is configured there. */
const reachableFrom: Readonly<Record<string, readonly string[]>> = {
  loopback: ['loopback', 'site'],
  site: ['site'],
  linkLocal: ['linkLocal'],
};

/** The kind of an address: `public`, `loopback`, `site` (private networks), `linkLocal`, or `never`. */
function addressKind(text: string): string {
  const address = ipaddr.process(text);
  const range = address.range();
  if (range === 'unicast') return 'public';
  if (range === 'loopback' || range === 'linkLocal') return range;
  if (range === 'private' || range === 'uniqueLocal' || range === 'carrierGradeNat') return 'site';
  // NAT64 carries an IPv4 address in its last four bytes, and leads to it.
  if (range === 'rfc6052') return addressKind(address.toByteArray().slice(-4).join('.'));
  // Unspecified, multicast, broadcast, reserved, benchmarking, 6to4, Teredo, …: no registry serves blobs there.
  return 'never';
}

/**
 * Keeps redirects and token realms of one upstream away from addresses inside the operator's network (server-side request
 * forgery), unless the upstream itself is configured at such an address. Names are checked in the connection's own
 * lookup, so that the checked address is the one that is connected to.
 */
export class AddressGuard {
  readonly #ownHosts: ReadonlySet<string>;
  readonly #ownKinds = new Map<string, ReadonlySet<string>>();

  readonly #lookup: SystemLookup;

  /**
   * @param urls the configured URLs of the upstream
   * @param systemLookup finds the addresses of names (default: the system's own look-up)
   */
  constructor(urls: readonly URL[], systemLookup: SystemLookup = lookup) {
    this.#lookup = systemLookup;
    this.#ownHosts = new Set(urls.map((url) => url.hostname));
    for (const host of this.#ownHosts) {
      const literal = addressLiteral(host);
      if (literal !== undefined) this.#ownKinds.set(host, new Set([addressKind(literal)]));
    }
  }

  /** Whether a URL is at a configured host, on any port. */
  isOwn(url: URL): boolean {
    return this.#ownHosts.has(url.hostname);
  }

  /**
   * Call it before a request is sent: a connection to a literal address does no lookup.
   * @throws ForbiddenAddressError
   */
  checkLiteral(url: URL): void {
    const literal = addressLiteral(url.hostname);
    if (literal !== undefined && !this.isOwn(url)) this.#check(literal);
  }

  /** The lookup for a connection to a URL; fails with ForbiddenAddressError if any of the addresses is guarded. */
  lookupFor(url: URL): LookupFunction {
    const own = this.isOwn(url);
    return (hostname, options, callback) => {
      this.#lookup(hostname, { ...options, all: true }, (error, addresses) => {
        if (error) {
          callback(error, '');
          return;
        }
        try {
          if (own) this.#learn(url.hostname, addresses);
          else for (const { address } of addresses) this.#check(address);
        } catch (refusal) {
          callback(refusal as Error, '');
          return;
        }
        const [first] = addresses;
        if (options.all === true) callback(null, addresses);
        else callback(null, first?.address ?? '', first?.family);
      });
    };
  }

  #learn(host: string, addresses: readonly LookupAddress[]): void {
    this.#ownKinds.set(host, new Set(addresses.map(({ address }) => addressKind(address))));
  }

  #check(address: string): void {
    const kind = addressKind(address);
    if (kind === 'public') return;
    for (const kinds of this.#ownKinds.values()) {
      for (const own of kinds) if (reachableFrom[own]?.includes(kind) === true) return;
    }
    throw new ForbiddenAddressError('the address belongs to a network that upstreams may not send us to');
  }
}

/** The address in a URL's host name, without brackets; `undefined` for a name. */
function addressLiteral(hostname: string): string | undefined {
  const bare = hostname.startsWith('[') ? hostname.slice(1, -1) : hostname;
  return isIP(bare) === 0 ? undefined : bare;
}
