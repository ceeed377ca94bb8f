import { once } from 'node:events';
import type { BlobSize } from '../../../archive/description.ts';
import { RegistryError } from '../../../oci/error.ts';
import { marksOf } from '../../../store/eviction-policy.ts';
import type { ImportRoom } from '../../protocol/import.ts';
import type { Operations } from '../../protocol/operations.ts';
import type { OwnedCache } from '../cache/owned-cache.ts';
import { ExportPlanner } from './export-plan.ts';
import { Imports } from './imports.ts';

type ArchiveOperations = Pick<
  Operations,
  | 'exportImages'
  | 'exportHold'
  | 'importNames'
  | 'importHold'
  | 'importRoom'
  | 'importBlob'
  | 'importDelivered'
  | 'importImages'
>;

/** What `export` and `import` ask of a cache that this process owns. */
export function archiveOperations(cache: OwnedCache): ArchiveOperations {
  const { store, catalog, mirror, now } = cache;
  const imports = (): Imports =>
    new Imports({ store, catalog, downloads: mirror.downloads, upstreams: cache.upstreams.table, now });
  return {
    exportImages({ image, tags, limit, ...choice }) {
      const planner = new ExportPlanner({ upstreams: cache.upstreams.table, store, catalog });
      return planner.images({ image, tags, limit }, choice);
    },
    async *exportHold({ blobs }, { signal }) {
      using _ = await store.hold(blobs.map(({ digest }) => digest));
      yield { lacking: await imports().lacking(blobs) };
      if (!signal.aborted) await once(signal, 'abort');
    },
    async *importNames({ images }) {
      yield await Array.fromAsync(imports().known(images));
    },
    async *importHold({ blobs, archive }, { signal }) {
      using _ = await store.hold(blobs.map(({ digest }) => digest));
      const lacking = new Set(await imports().lacking(blobs));
      const coming = blobs.filter(({ digest }) => lacking.has(digest));
      using room = await reserve(coming, cache, signal);
      const undelivered = imports().undelivered(blobs, archive);
      yield { lacking: [...lacking], undelivered, isReserved: coming.length === 0 || room !== undefined };
      if (!signal.aborted) await once(signal, 'abort');
    },
    async *importRoom({ bytes }) {
      yield roomFor(bytes, cache);
    },
    async *importBlob({ digest, size, name }, { input, signal }) {
      try {
        yield { isTaken: await imports().receive({ digest, size }, { name, body: input, signal }) };
      } catch (error) {
        if (!(error instanceof RegistryError) || error.reason !== 'damaged') throw error;
        yield { isTaken: false, wrong: error.message };
      }
    },
    async *importDelivered({ digests, archive, base }) {
      await imports().deliver(digests, { archive, base });
      yield { archive };
    },
    async *importImages({ images, archive }, { signal }) {
      const faultsBefore = cache.catalogFaults;
      for await (const adopted of imports().adopt(images, { archive, signal })) {
        // A read waits for what is to be written.
        catalog.blobs.usage();
        if (cache.catalogFaults > faultsBefore) throw new Error('the catalog of the cache cannot be written');
        yield adopted;
      }
    },
  };
}

/** Reserves room for blobs that are to come. @returns `undefined` where there is none, or nothing comes */
async function reserve(
  blobs: readonly BlobSize[],
  { room }: OwnedCache,
  signal: AbortSignal,
): Promise<Disposable | undefined> {
  if (blobs.length === 0) return undefined;
  return await room.reserve(
    blobs.map(({ digest, size }) => ({ digest, bytes: size, isStored: false })),
    signal,
  );
}

function roomFor(bytes: number, { catalog, config }: OwnedCache): ImportRoom {
  const { maxSizeBytes } = config.cache;
  const { pinnedBytes } = catalog.blobs.usage();
  // Offline nothing is evicted, whatever comes.
  const isEnough = config.offline || pinnedBytes + bytes <= marksOf(maxSizeBytes).high;
  return { isEnough, pinnedBytes, maxSizeBytes };
}
