import { once } from 'node:events';
import type { BlobSize } from '../archive/description.ts';
import { shownBytes } from '../config/units.ts';
import type { OperationContext } from '../http/operations.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import type { Platform } from '../oci/platform.ts';
import { type ExportEvent, ExportPlanner } from '../operations/owner/archives/export-plan.ts';
import { type AdoptedImage, Imports, type NewImage, type RefusedImage } from '../operations/owner/archives/imports.ts';
import type { WantedImages } from '../operations/owner/fetch/wanted-images.ts';
import { marksOf } from '../store/eviction-policy.ts';
import type { Cache } from './cache.ts';

/** What `export` and `import` have done to a cache. */
export interface ArchiveOperations {
  /** Images of what is here and what goes with them, as far as they are to be exported. */
  exportImages(
    parameters: WantedImages & {
      readonly platforms: readonly Platform[];
      readonly referrers: boolean;
      readonly nondistributable: boolean;
    },
    context: OperationContext,
  ): AsyncIterable<ExportEvent>;
  /** The names that the cache has for images. */
  importNames(
    parameters: { readonly names: readonly string[] },
    context: OperationContext,
  ): AsyncIterable<readonly string[]>;
  /**
   * Which of an archive's blobs are not here, and which it is not known to have brought. None of them is evicted until
   * whoever asked leaves: there are no more events.
   */
  importHold(
    parameters: { readonly blobs: readonly BlobSize[]; readonly archive: Digest },
    context: OperationContext,
  ): AsyncIterable<{ readonly lacking: readonly Digest[]; readonly undelivered: readonly Digest[] }>;
  /** Whether so much can be taken in. @throws Error where the cache is too small for it */
  importRoom(
    parameters: { readonly bytes: number },
    context: OperationContext,
  ): AsyncIterable<{ readonly bytes: number }>;
  /** Takes in one blob, which is sent along. `wrong`: its bytes are not the blob. */
  importBlob(
    parameters: BlobSize & { readonly name: string },
    context: OperationContext,
  ): AsyncIterable<{ readonly isTaken: boolean; readonly wrong?: string }>;
  /** Notes which blobs an archive has, or the one that it builds upon. */
  importDelivered(
    parameters: { readonly digests: readonly Digest[]; readonly archive: Digest; readonly base: Digest | undefined },
    context: OperationContext,
  ): AsyncIterable<{ readonly archive: Digest }>;
  /** Gives images that are whole their names, and says what is wrong with the others. */
  importImages(
    parameters: { readonly images: readonly NewImage[]; readonly archive: Digest },
    context: OperationContext,
  ): AsyncIterable<AdoptedImage | RefusedImage>;
}

/** The same, of a cache that this process owns. */
export function archiveOperationsOf(cache: Cache): ArchiveOperations {
  const { store, catalog, mirror, now } = cache;
  const imports = (): Imports =>
    new Imports({ store, catalog, downloads: mirror.downloads, upstreams: cache.upstreams.table, now });
  return {
    exportImages({ image, tags, limit, ...choice }) {
      const planner = new ExportPlanner({ upstreams: cache.upstreams.table, store, catalog });
      return planner.images({ image, tags, limit }, choice);
    },
    async *importNames({ names }) {
      yield names.map((name) => imports().nameOf(name));
    },
    async *importHold({ blobs, archive }, { signal }) {
      using _ = await store.hold(blobs.map(({ digest }) => digest));
      yield { lacking: await imports().lacking(blobs), undelivered: imports().undelivered(blobs, archive) };
      if (!signal.aborted) await once(signal, 'abort');
    },
    async *importRoom({ bytes }) {
      requireRoom(bytes, cache);
      yield { bytes };
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

/** @throws Error */
function requireRoom(bytes: number, { catalog, config }: Cache): void {
  const { maxSizeBytes } = config.cache;
  const { pinnedBytes } = catalog.blobs.usage();
  // Offline nothing is evicted, whatever comes.
  if (config.offline || pinnedBytes + bytes <= marksOf(maxSizeBytes).high) return;
  const pinned = pinnedBytes === 0 ? '' : ` beside ${shownBytes(pinnedBytes)} that are pinned`;
  throw new Error(
    `it brings ${shownBytes(bytes)}${pinned}, more than cache.maxSize (${shownBytes(maxSizeBytes)}) has room for`,
  );
}
