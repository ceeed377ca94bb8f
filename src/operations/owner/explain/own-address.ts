import { hostname, networkInterfaces } from 'node:os';
import type { Reference } from '../../../oci/reference.ts';
import type { UpstreamTable } from '../../../upstream/table.ts';

/**
 * Takes this mirror's own address off a name, as in `127.0.0.1:5000/docker.io/library/busybox`, so that a name can be
 * given as it was pulled. An address is this mirror's if an upstream lists it under `hosts`, if what follows names an
 * upstream, or if the mirror listens there.
 * @param addresses where the mirror listens, as `host:port`
 */
export function withoutOwnAddress(
  reference: Reference,
  upstreams: UpstreamTable,
  addresses: readonly string[],
): Reference {
  const { registry, repository } = reference;
  if (registry === undefined || upstreams.find(registry) !== undefined) return reference;
  const slash = repository.indexOf('/');
  const first = slash === -1 ? '' : repository.slice(0, slash);
  if (first !== '' && upstreams.find(first) !== undefined) {
    return { ...reference, registry: first, repository: repository.slice(slash + 1) };
  }
  const byHost = upstreams.findByHost(registry);
  if (byHost !== undefined) return { ...reference, registry: byHost.name };
  return addresses.includes(registry) ? { ...reference, registry: undefined } : reference;
}

/** How a listener can be reached from this machine. @param host `undefined` or unspecified: every address */
export function addressesOf({ host, port }: { readonly host: string | undefined; readonly port: number }): string[] {
  const isEvery = host === undefined || host === '' || host === '0.0.0.0' || host === '::';
  const isLoopback = isEvery || host === 'localhost' || host === '::1' || host.startsWith('127.');
  const all = Object.values(networkInterfaces()).flatMap((found) => (found ?? []).map(({ address }) => address));
  const hosts = new Set([
    ...(isEvery ? [...all, hostname().toLowerCase()] : [host]),
    ...(isLoopback ? ['localhost'] : []),
  ]);
  return [...hosts].map((each) => `${each.includes(':') ? `[${each}]` : each}:${port}`);
}
