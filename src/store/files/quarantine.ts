import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Digest, digestAlgorithm, digestHex } from '../../oci/digest.ts';
import { DiskFault } from './blob-store.ts';
import type { Layout } from './layout.ts';

/** Maximum number of altered blobs that are kept, and of their bytes; the oldest are removed first. */
export const maxQuarantined = 20;
export const maxQuarantinedBytes = 1024 ** 3;

/**
 * Moves the file of a blob from `blobs/` to the directory of altered ones, named by time and digest. If it cannot be
 * moved, it is removed. A missing file is not an error.
 * @throws DiskFault if it can be neither moved nor removed
 */
export async function quarantine(layout: Layout, digest: Digest): Promise<void> {
  const path = layout.blob(digest);
  const time = new Date().toISOString().replaceAll(':', '');
  const name = `${time}-${digestAlgorithm(digest)}-${digestHex(digest)}`;
  try {
    await mkdir(layout.quarantine, { recursive: true, mode: 0o700 });
    await rename(path, join(layout.quarantine, name));
  } catch {
    await rm(path, { force: true }).catch((error: unknown) => {
      throw new DiskFault(`remove ${path}`, error);
    });
  }
  // A file that cannot be removed now is removed with the next one.
  await keepLatest(layout).catch(() => undefined);
}

/** Removes files above the limits, oldest first. @throws the system's error */
async function keepLatest(layout: Layout): Promise<void> {
  // The names begin with the time.
  const names = (await readdir(layout.quarantine)).toSorted().toReversed();
  let bytes = 0;
  for (const [index, name] of names.entries()) {
    const path = join(layout.quarantine, name);
    bytes += (await stat(path)).size;
    if (index >= maxQuarantined || bytes > maxQuarantinedBytes) await rm(path, { force: true });
  }
}
