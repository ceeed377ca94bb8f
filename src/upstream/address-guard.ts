import { lookup } from 'node:dns';
import { isIP, type LookupFunction } from 'node:net';
import ipaddr from 'ipaddr.js';
import { NameLookups, type SystemLookup } from './name-lookups.ts';

/** A redirect or token realm leads to an address that an upstream must not send us to. */
export class ForbiddenAddressError extends Error {
  override readonly name = 'ForbiddenAddressError';
  readonly code = 'ERR_FORBIDDEN_ADDRESS';
}

/** The kind of an address: `site` are private networks, `metadata` what clouds serve to the machines on them. */
type AddressKind = 'public' | 'loopback' | 'site' | 'metadata' | 'never';

/** Kinds that are guarded, and those that an upstream at an address of a kind may lead to. */
const reachableFrom: Readonly<Record<AddressKind, readonly AddressKind[]>> = {
  public: [],
  loopback: ['loopback', 'site'],
  site: ['site'],
  metadata: ['metadata'],
  never: [],
};

/** Addresses outside of the link-local ranges where clouds keep their metadata or agents: Azure, Alibaba, Oracle, AWS. */
const metadataAddresses: ReadonlySet<string> = new Set([
  '168.63.129.16',
  '100.100.100.200',
  '192.0.0.192',
  'fd00:ec2::254',
]);

/** The part of IPv6 that is routed on the internet (RFC 4291, 2.4; IANA "IPv6 Global Unicast Address Assignments"). */
const globalUnicast = ipaddr.IPv6.parseCIDR('2000::/3');

/** Names that answers of an upstream lead to and that are looked up at a time. */
const maxForeignLookups = 2;

function addressKind(text: string): AddressKind {
  const address = ipaddr.process(text);
  if (metadataAddresses.has(address.toString())) return 'metadata';
  const range = address.range();
  if (range === 'loopback') return 'loopback';
  if (range === 'linkLocal') return 'metadata';
  if (range === 'private' || range === 'uniqueLocal' || range === 'carrierGradeNat') return 'site';
  // NAT64 carries an IPv4 address in its last four bytes, and leads to it.
  if (range === 'rfc6052') return addressKind(address.toByteArray().slice(-4).join('.'));
  // Unspecified, multicast, reserved, 6to4, Teredo, IPv4 within ::/96, …: no registry serves blobs there.
  if (range !== 'unicast') return 'never';
  return address instanceof ipaddr.IPv6 && !address.match(globalUnicast) ? 'never' : 'public';
}

/**
 * Keeps redirects and token realms of one upstream away from addresses inside our own network (server-side request
 * forgery), unless the upstream itself is at such an address. Names are checked in the connection's own look-up, so that
 * the address that was checked is the one that is dialled.
 */
export class AddressGuard {
  readonly #ownHosts: ReadonlySet<string>;
  /** Hosts and ports that are configured. */
  readonly #configured: ReadonlySet<string>;
  /** The kind of the address that each own host was last connected to, or is configured as. */
  readonly #ownKinds = new Map<string, AddressKind>();

  /** Apart: a name that an answer leads to does not keep a configured one waiting. */
  readonly #lookups: Readonly<Record<'own' | 'foreign', NameLookups>>;

  /**
   * @param urls the configured URLs of the upstream
   * @param systemLookup finds the addresses of names (default: the system's own lookup)
   */
  constructor(urls: readonly URL[], systemLookup: SystemLookup = lookup) {
    this.#ownHosts = new Set(urls.map((url) => url.hostname));
    this.#lookups = {
      own: new NameLookups(systemLookup, { atATime: this.#ownHosts.size }),
      foreign: new NameLookups(systemLookup, { atATime: maxForeignLookups }),
    };
    this.#configured = new Set(urls.map((url) => url.origin));
    for (const host of this.#ownHosts) {
      const literal = addressLiteral(host);
      if (literal !== undefined) this.#ownKinds.set(host, addressKind(literal));
    }
  }

  /** Whether a URL is at a configured host, on any port. */
  isOwn(url: URL): boolean {
    return this.#ownHosts.has(url.hostname);
  }

  /**
   * To be called before a request is sent: a connection to a literal address does no look-up.
   * @throws ForbiddenAddressError
   */
  checkLiteral(url: URL): void {
    const literal = addressLiteral(url.hostname);
    if (literal !== undefined && !this.isOwn(url) && !this.#isAllowed(literal)) throw forbidden();
  }

  /**
   * The look-up for a connection to a URL. Of a configured host it leaves out what its name may not lead to, since the
   * owner of the name can change its addresses at any time. It fails with ForbiddenAddressError if nothing is left, and
   * for other hosts if any of the addresses is guarded.
   */
  lookupFor(url: URL): LookupFunction {
    const own = this.isOwn(url);
    return (hostname, options, callback) => {
      const lookups = this.#lookups[own ? 'own' : 'foreign'];
      lookups.find(hostname, { ...options, all: true }, (error, found) => {
        if (error) {
          callback(error, '');
          return;
        }
        const addresses = found.filter(({ address }) => this.#mayBe(url, address));
        if (addresses.length < (own ? Math.min(1, found.length) : found.length)) {
          callback(forbidden(), '');
          return;
        }
        const [first] = addresses;
        if (options.all === true) callback(null, addresses);
        else callback(null, first?.address ?? '', first?.family);
      });
    };
  }

  /**
   * A connection to a URL was made. Only the address that answers tells where an upstream is: its name may have others,
   * chosen to open this guard. What a cloud keeps for its machines is opened by a configured address alone.
   */
  connected(url: URL, address: string): void {
    if (!this.isOwn(url) || addressLiteral(url.hostname) !== undefined || isIP(address) === 0) return;
    const kind = addressKind(address);
    this.#ownKinds.set(url.hostname, kind === 'metadata' ? 'never' : kind);
  }

  /** Whether a connection to a URL may go to an address that its name has. */
  #mayBe(url: URL, address: string): boolean {
    // Where a configured URL leads is the operator's to know; what clouds keep for their machines is never meant by a name.
    if (this.#configured.has(url.origin)) return addressKind(address) !== 'metadata';
    return this.#isAllowed(address);
  }

  #isAllowed(address: string): boolean {
    const kind = addressKind(address);
    return kind === 'public' || this.#ownKinds.values().some((own) => reachableFrom[own].includes(kind));
  }
}

function forbidden(): ForbiddenAddressError {
  return new ForbiddenAddressError('the address belongs to a network that upstreams may not redirect to');
}

/** The address in a URL's host name, without brackets; `undefined` for a name. */
function addressLiteral(hostname: string): string | undefined {
  const bare = hostname.startsWith('[') ? hostname.slice(1, -1) : hostname;
  return isIP(bare) === 0 ? undefined : bare;
}
