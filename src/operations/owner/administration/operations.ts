import type { Operations } from '../../protocol/operations.ts';
import type { OwnedCache } from '../cache/owned-cache.ts';
import { Administration } from './administration.ts';
import { ImageList } from './image-list.ts';

type AdministrationOperations = Pick<Operations, 'list' | 'remove' | 'pin' | 'unpin'>;

/** The operations `ls`, `rm`, `pin` and `unpin` on a cache that this process owns. */
export function administrationOperations(cache: OwnedCache): AdministrationOperations {
  const { catalog, now } = cache;
  return {
    async *list({ images, upstream, ...query }, { signal }) {
      const administration = administrationOf(cache);
      const selections = administration.select(images, 'all');
      const name = upstream === undefined ? undefined : administration.upstreamName(upstream);
      yield* new ImageList({ catalog, now }).list({ ...query, selections, upstream: name }, signal);
    },
    remove: (query, { signal }) => administrationOf(cache).remove(query, signal),
    pin: ({ images }, { signal }) => administrationOf(cache).pin(images, signal),
    unpin: ({ images }, { signal }) => administrationOf(cache).unpin(images, signal),
  };
}

/** Administration with the upstreams in effect now. */
export function administrationOf({
  catalog,
  store,
  mirror,
  upstreams,
  reportAdministration,
}: OwnedCache): Administration {
  return new Administration({
    catalog,
    store,
    fills: mirror.fills,
    upstreams: upstreams.table,
    report: reportAdministration,
  });
}
