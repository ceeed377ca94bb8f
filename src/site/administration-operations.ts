import type { OperationContext } from '../http/operations.ts';
import {
  Administration,
  type PinEvent,
  type RemovalEvent,
  type RemovalQuery,
} from '../operations/owner/administration/administration.ts';
import { ImageList, type ListEvent, type ListQuery } from '../operations/owner/administration/image-list.ts';
import { Checkup, type CheckupEvent } from '../operations/owner/verify/checkup.ts';
import { Mender } from '../operations/owner/verify/mender.ts';
import { FileHasher } from '../store/files/file-hasher.ts';
import { Verification } from '../store/files/verification.ts';
import type { Cache } from './cache.ts';

/** What `ls` asks for: names and patterns as they were written. */
export type ListParameters = Omit<ListQuery, 'selections'> & { readonly images: readonly string[] };

/** What `ls`, `rm`, `pin` and `unpin` have done to a cache. */
export interface AdministrationOperations {
  list(parameters: ListParameters, context: OperationContext): AsyncIterable<ListEvent>;
  remove(parameters: RemovalQuery, context: OperationContext): AsyncIterable<RemovalEvent>;
  pin(parameters: { readonly images: readonly string[] }, context: OperationContext): AsyncIterable<PinEvent>;
  unpin(parameters: { readonly images: readonly string[] }, context: OperationContext): AsyncIterable<PinEvent>;
  /** Reads what is stored again. @param parameters `images`: none means all there is */
  verify(
    parameters: { readonly images: readonly string[]; readonly repair: boolean },
    context: OperationContext,
  ): AsyncIterable<CheckupEvent>;
}

/** The same, of a cache that this process owns. */
export function administrationOperationsOf(cache: Cache): AdministrationOperations {
  const { catalog, store, mirror, now, administrationObserver: observer } = cache;
  const administration = (): Administration =>
    new Administration({
      catalog,
      store,
      downloads: mirror.downloads,
      upstreams: cache.upstreams.table,
      observer,
    });
  return {
    async *list({ images, upstream, ...query }, { signal }) {
      const selections = administration().select(images, 'all');
      const name = upstream === undefined ? undefined : administration().upstreamName(upstream);
      yield* new ImageList({ catalog, now }).list({ ...query, selections, upstream: name }, signal);
    },
    remove: (query, { signal }) => administration().remove(query, signal),
    pin: ({ images }, { signal }) => administration().pin(images, signal),
    unpin: ({ images }, { signal }) => administration().unpin(images, signal),
    async *verify({ images, repair }, { signal }) {
      const { layout } = cache;
      const selections = administration().select(images, 'latest');
      await using hasher = new FileHasher();
      const verification = new Verification({ layout, catalog, hasher, now });
      const mender = new Mender({ custody: mirror.custody, repair: cache.repair });
      yield* new Checkup({ catalog, verification, mender: repair ? mender : undefined }).run(selections, signal);
    },
  };
}
