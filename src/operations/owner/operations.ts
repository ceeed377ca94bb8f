import type { Search } from '../../discovery/search/search.ts';
import type { Operations } from '../protocol/operations.ts';
import { administrationOperations } from './administration/operations.ts';
import type { HostedHere } from './archives/named-images.ts';
import { exportOperations, importOperations } from './archives/operations.ts';
import type { OwnedCache } from './cache/owned-cache.ts';
import { type FetchDependencies, fetchImages } from './fetch/fetch.ts';
import { holdOperations } from './holds/operations.ts';
import { keyOperations } from './keys/operations.ts';
import { searchEverything } from './search.ts';
import { verify } from './verify/operation.ts';

/** The operations on a cache that this process owns. */
export function operationsOf(
  cache: OwnedCache,
  { search, hosted }: { readonly search: Search; readonly hosted: HostedHere },
): Operations {
  return {
    fetch: (parameters, { signal }) => fetchImages(parameters, fetchDependencies(cache), { signal }),
    ...exportOperations(cache, hosted),
    ...importOperations(cache, hosted),
    ...administrationOperations(cache),
    ...keyOperations(cache.keys, (event, { id, name }) => cache.audit(event, { key: id, name })),
    search: (parameters, { signal }) => searchEverything(search, parameters, { signal, now: cache.now }),
    ...holdOperations(cache),
    verify: (parameters, { signal }) => verify(parameters, cache, signal),
  };
}

/** The dependencies of a fetch, with the configuration in effect now. */
export function fetchDependencies(owned: OwnedCache): FetchDependencies {
  const { mirror, store, catalog, room, upstreams, config, signatures, now } = owned;
  const { offline, cache } = config;
  const { maxFills } = cache;
  return { mirror, store, catalog, room, upstreams: upstreams.table, offline, maxFills, signatures, now };
}
