import type { Blobs } from '../../../mirror/blobs.ts';
import type { Completeness } from '../../../mirror/completeness.ts';
import type { Fills } from '../../../mirror/fill/fills.ts';
import type { Descriptor } from '../../../oci/descriptor.ts';
import type { Catalog } from '../../../store/catalog/catalog.ts';
import type { Repository } from '../../../upstream/repository.ts';

export interface ArrivalOptions {
  readonly catalog: Catalog;
  readonly blobs: Blobs;
  readonly fills: Fills;
  readonly completeness: Completeness;
}

/**
 * Brings a blob that a stored manifest of the repository names to this disk, where it is not here yet: as a client's GET
 * does, but no client reads it.
 * @param options.onProgress told how many bytes are here, and of how many where that is known
 * @returns whether it had to be fetched
 * @throws RegistryError as Blobs.get, but for the deadline, 507 where the disk cannot keep it; the signal's reason
 */
export async function bringBlob(
  { catalog, blobs, fills, completeness }: ArrivalOptions,
  { target, blob }: { readonly target: Repository; readonly blob: Descriptor },
  options: {
    readonly signal: AbortSignal;
    readonly onProgress: (doneBytes: number, totalBytes: number | undefined) => void;
  },
): Promise<boolean> {
  const { digest, size } = blob;
  const { signal, onProgress } = options;
  // Bytes of another upstream that cannot be compared in parts are fetched as if they were not here.
  const isReadable = await blobs.requireRight(target, digest, { signal });
  // A fill under way may have made the file visible and not yet noted whose bytes they are.
  if (isReadable && (await completeness.hasBlob(target.key, blob)) && !fills.has(digest)) {
    catalog.uses.touch(digest);
    return false;
  }
  const expectedSize = size < 0 ? undefined : size;
  const joiner = { repository: target, expectedSize, isOwned: true };
  await fills.bring(digest, joiner, {
    signal,
    onProgress: (doneBytes, totalBytes) => onProgress(doneBytes, totalBytes ?? expectedSize),
  });
  return true;
}
