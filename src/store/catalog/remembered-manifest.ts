import { readManifest } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/error.ts';
import type { BlobStore } from '../files/blob-store.ts';
import type { Catalog } from './catalog.ts';

/**
 * Reads a manifest again that a lost catalog is known to have described, and records what it names; forgets the
 * description if the manifest is not stored any more.
 * @returns whether it is recorded now
 * @throws DiskFault
 */
export async function recallManifest(
  digest: Digest,
  { catalog, store }: { readonly catalog: Catalog; readonly store: BlobStore },
): Promise<boolean> {
  const remembered = catalog.names.remembered(digest);
  if (remembered.length === 0) return false;
  const found = await store.stat(digest);
  // Bytes with a wrong digest are not returned.
  const bytes = found && (await store.read(digest));
  const described = (bytes === undefined ? [] : remembered).flatMap(({ repository, contentType }) => {
    const links = linksOf(bytes!, contentType);
    return links === undefined
      ? []
      : [{ repository, contentType, links, size: bytes!.length, usedAtMs: found!.usedAtMs }];
  });
  for (const manifest of described) await catalog.manifests.prepare(digest, manifest);
  catalog.together(() => {
    for (const manifest of described) catalog.manifests.restore(digest, manifest);
    catalog.names.forgetRemembered(digest);
  });
  return described.length > 0;
}

function linksOf(bytes: Buffer, contentType: string) {
  try {
    return readManifest(bytes, contentType);
  } catch (error) {
    if (!(error instanceof RegistryError)) throw error;
    return undefined;
  }
}
