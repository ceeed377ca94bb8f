import { networkInterfaces } from 'node:os';

/** Where a mirror listens, and the URL at which other replicas reach it. */
export interface OwnAddresses {
  readonly listen: { readonly host: string | undefined; readonly port: number };
  readonly advertise: string | undefined;
}

const defaultPorts: Readonly<Record<string, number>> = { 'http:': 80, 'https:': 443 };

/**
 * Whether a URL leads to the mirror itself, as far as that can be known without resolving names or asking anyone: it has
 * the mirror's port and an address that the mirror listens on, or it is the advertised address. Loops over other mirrors
 * are found when they are asked (RFC 8586).
 */
export function leadsToItself(url: string, { listen, advertise }: OwnAddresses): boolean {
  const target = placeOf(url);
  if (target === undefined) return false;
  const own = advertise === undefined ? undefined : placeOf(advertise);
  if (own?.host === target.host && own.port === target.port) return true;
  // A port that the system is to choose is not known yet.
  if (listen.port === 0 || target.port !== listen.port) return false;
  const isEvery = listen.host === undefined || listen.host === '0.0.0.0' || listen.host === '::';
  const host = listen.host?.toLowerCase();
  if (target.host === host) return true;
  if (target.host === 'localhost') return isEvery || host === '127.0.0.1' || host === '::1';
  return isEvery && (isLoopback(target.host) || localAddresses().includes(target.host));
}

function placeOf(url: string): { readonly host: string; readonly port: number } | undefined {
  if (!URL.canParse(url)) return undefined;
  const { protocol, hostname, port } = new URL(url);
  return {
    host: hostname.replace(/^\[(.*)\]$/, '$1'),
    port: port === '' ? (defaultPorts[protocol] ?? 0) : Number(port),
  };
}

function isLoopback(host: string): boolean {
  return host === '::1' || /^127(?:\.\d+){3}$/.test(host);
}

function localAddresses(): string[] {
  return Object.values(networkInterfaces()).flatMap((found) => (found ?? []).map(({ address }) => address));
}
