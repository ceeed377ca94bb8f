import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';

/** Environment variables, as `process.env` has them. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** How a URL is reached. */
export type Way =
  | { readonly kind: 'direct' }
  /** `http`: by absolute addresses or a tunnel; `socks`: SOCKS 5, the proxy resolves names. */
  | { readonly kind: 'http' | 'socks'; readonly proxy: URL };

interface Exception {
  readonly port: string;
  readonly matches: (host: string) => boolean;
}

const direct: Way = { kind: 'direct' };
const defaultPorts: Readonly<Record<string, string>> = { 'http:': '80', 'https:': '443' };
const schemes: Readonly<Record<string, 'http' | 'socks'>> = {
  'http:': 'http',
  'https:': 'http',
  'socks5:': 'socks',
  'socks5h:': 'socks',
};

/**
 * The proxies that the environment names, read as curl and Go do: `http_proxy`, `https_proxy`, `all_proxy` and
 * `no_proxy`, in lower or upper case, lower case first. A proxy may lack its scheme. `no_proxy` takes names (with what is
 * below them), addresses, ranges (CIDR), each with or without a port, and `*`.
 */
export class Proxies {
  readonly #http: Way;
  readonly #https: Way;
  readonly #exceptions: readonly Exception[];

  /** @throws Error where a proxy cannot be used: nothing goes around one in silence */
  constructor(environment: Environment) {
    this.#http = wayOf(environment, ['http_proxy', 'all_proxy']);
    this.#https = wayOf(environment, ['https_proxy', 'all_proxy']);
    const text = valueOf(environment, 'no_proxy')?.value ?? '';
    this.#exceptions = text
      .split(/[\s,]+/)
      .filter((entry) => entry !== '')
      .map(exceptionOf);
  }

  /** How a URL is reached. */
  for(url: URL): Way {
    const way = url.protocol === 'https:' ? this.#https : this.#http;
    if (way.kind === 'direct') return way;
    const host = bare(url.hostname);
    const port = url.port === '' ? (defaultPorts[url.protocol] ?? '') : url.port;
    const isExcepted = this.#exceptions.some((each) => (each.port === '' || each.port === port) && each.matches(host));
    return isExcepted ? direct : way;
  }
}

/** A proxy's address without user and password; `undefined` for a direct connection. */
export function proxyInWords(way: Way): string | undefined {
  return way.kind === 'direct' ? undefined : `${way.proxy.protocol}//${way.proxy.host}`;
}

function valueOf(environment: Environment, name: string): { name: string; value: string } | undefined {
  for (const spelling of [name, name.toUpperCase()]) {
    const value = environment[spelling]?.trim();
    if (value !== undefined && value !== '') return { name: spelling, value };
  }
  return undefined;
}

function wayOf(environment: Environment, names: readonly string[]): Way {
  const found = names.map((name) => valueOf(environment, name)).find((value) => value !== undefined);
  if (found === undefined) return direct;
  const { name, value } = found;
  const proxy = URL.parse(/^[a-z][a-z0-9+.-]*:\/\//i.test(value) ? value : `http://${value}`);
  const kind = proxy === null ? undefined : schemes[proxy.protocol];
  // The value may hold a password.
  if (proxy === null || kind === undefined || proxy.hostname === '') {
    throw new Error(
      `${name} is not the address of a proxy: http, https and socks5 are supported, as in http://host:port`,
    );
  }
  return { kind, proxy };
}

function exceptionOf(entry: string): Exception {
  if (entry === '*') return { port: '', matches: () => true };
  const range = rangeOf(entry);
  if (range) return { port: '', matches: (host) => isIP(host) !== 0 && isWithin(host, range) };
  const { host, port } = splitPort(entry);
  if (isIP(host) !== 0) {
    const address = ipaddr.process(host).toString();
    return { port, matches: (other) => isIP(other) !== 0 && ipaddr.process(other).toString() === address };
  }
  const name = host
    .toLowerCase()
    .replace(/^\*?\./, '')
    .replace(/\.$/, '');
  return { port, matches: (other) => other === name || other.endsWith(`.${name}`) };
}

type Range = ReturnType<typeof ipaddr.parseCIDR>;

function rangeOf(entry: string): Range | undefined {
  return /^[0-9a-f.:]+\/\d{1,3}$/i.test(entry) && ipaddr.isValidCIDR(entry) ? ipaddr.parseCIDR(entry) : undefined;
}

function isWithin(host: string, [network, bits]: Range): boolean {
  const address = ipaddr.process(host);
  if (address instanceof ipaddr.IPv4) return network instanceof ipaddr.IPv4 && address.match(network, bits);
  return network instanceof ipaddr.IPv6 && address.match(network, bits);
}

function splitPort(entry: string): { host: string; port: string } {
  const bracketed = /^\[([^\]]*)\](?::(\d{1,5}))?$/.exec(entry);
  if (bracketed) return { host: bracketed[1] ?? '', port: bracketed[2] ?? '' };
  const named = /^([^:]*):(\d{1,5})$/.exec(entry);
  return named ? { host: named[1] ?? '', port: named[2] ?? '' } : { host: entry, port: '' };
}

function bare(hostname: string): string {
  return hostname
    .replace(/^\[|\]$/g, '')
    .replace(/\.$/, '')
    .toLowerCase();
}
