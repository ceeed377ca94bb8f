import { readManifest } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/error.ts';
import type { BlobStore } from '../files/blob-store.ts';
import type { Catalog } from './catalog.ts';

export interface RecallOptions {
  readonly catalog: Catalog;
  readonly store: BlobStore;
}

/**
 * Reads a manifest again that a lost catalog is known to have described, and records what it names; forgets the
 * description if the manifest is not stored any more.
 * @returns whether it is recorded now
 * @throws DiskFault
 */
export async function recallManifest(digest: Digest, { catalog, store }: RecallOptions): Promise<boolean> {
  const remembered = catalog.names.remembered(digest);
  if (remembered.length === 0) return false;
  const found = await store.stat(digest);
  // Bytes with a wrong digest are not returned.
  const bytes = found && (await store.read(digest));
  let isRecorded = false;
  catalog.together(() => {
    for (const { repository, contentType } of bytes === undefined ? [] : remembered) {
      const links = linksOf(bytes!, contentType);
      if (links === undefined) continue;
      catalog.manifests.restore(digest, {
        repository,
        size: bytes!.length,
        contentType,
        links,
        usedAtMs: found!.usedAtMs,
      });
      isRecorded = true;
    }
    catalog.names.forgetRemembered(digest);
  });
  return isRecorded;
}

function linksOf(bytes: Buffer, contentType: string) {
  try {
    return readManifest(bytes, contentType);
  } catch (error) {
    if (!(error instanceof RegistryError)) throw error;
    return undefined;
  }
}
