import type { Descriptor } from '../oci/descriptor.ts';
import type { BlobStore } from '../store/blob-store.ts';
import type { Catalog } from '../store/catalog.ts';
import { untilAborted } from '../upstream/shared-work.ts';
import type { Completeness } from './completeness.ts';
import type { Downloads } from './downloads.ts';
import { type Target, upstreamSources } from './sources.ts';

export interface ArrivalOptions {
  readonly store: BlobStore;
  readonly catalog: Catalog;
  readonly downloads: Downloads;
  readonly completeness: Completeness;
}

/**
 * Brings a blob that a stored manifest of the repository names to this disk, where it is not here yet: as a client's GET
 * does, but for nobody to read.
 * @param options.onProgress told how many bytes are here, and of how many where that is known
 * @returns whether it had to be fetched
 * @throws RegistryError as Blobs.get, but for the deadline; Error where the disk cannot keep it; the signal's reason
 */
export async function bringBlob(
  { store, catalog, downloads, completeness }: ArrivalOptions,
  { target, blob }: { readonly target: Target; readonly blob: Descriptor },
  options: {
    readonly signal: AbortSignal;
    readonly onProgress: (doneBytes: number, totalBytes: number | undefined) => void;
  },
): Promise<boolean> {
  const { digest, size } = blob;
  const { signal, onProgress } = options;
  if (!downloads.has(digest) && (await completeness.hasBlob(target.key, blob))) {
    catalog.touch(digest);
    return false;
  }
  const expectedSize = size < 0 ? undefined : size;
  const { fill, reader } = downloads.join(digest, {
    repository: target.key,
    sources: upstreamSources(target),
    expectedSize,
    isRanged: false,
    isOwned: true,
  });
  await using _ = reader;
  // Also refuses a blob of another size than its manifest says.
  await reader.heading(signal);
  while (fill.state === 'running') {
    onProgress(fill.partial?.written ?? 0, fill.heading?.size ?? expectedSize);
    await fill.progress.wait(signal);
  }
  if (fill.state === 'failed') throw fill.failure(target.key);
  await untilAborted(downloads.ended(digest), signal);
  await using stored = await store.open(digest);
  if (stored === undefined) throw new Error(`the disk of the cache cannot keep the blob ${digest}`);
  onProgress(stored.size, stored.size);
  return true;
}
