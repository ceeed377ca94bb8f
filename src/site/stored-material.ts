import { isDigest } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import { CachedShelf } from '../operations/owner/archives/image-shelf.ts';
import type { Material } from '../signatures/material.ts';
import type { Catalog } from '../store/catalog/catalog.ts';
import type { BlobStore } from '../store/files/blob-store.ts';
import type { Repository } from '../upstream/repository.ts';

/** Signatures as far as they are stored. No upstream is contacted. */
export function storedMaterial(
  { key }: Repository,
  { store, catalog }: { readonly store: BlobStore; readonly catalog: Catalog },
): Material {
  const shelf = new CachedShelf({ store, catalog });
  return {
    async manifest(reference) {
      const digest = isDigest(reference) ? reference : shelf.tag(key, reference);
      return digest && (await shelf.manifest(key, digest))?.bytes;
    },
    referrers(digest) {
      const manifests = shelf.referrers(key, digest);
      return Promise.resolve(Buffer.from(JSON.stringify({ schemaVersion: 2, manifests })));
    },
    async blob(digest, { maxBytes }) {
      await using blob = await store.open(digest);
      if (blob === undefined) throw new RegistryError('incomplete', `a signature in ${key} is not stored`);
      if (blob.size > maxBytes) throw new RegistryError('too-large', `a signature in ${key} is too large`);
      const bytes = Buffer.allocUnsafe(blob.size);
      for (let read = 0; read < bytes.length; ) {
        const count = await blob.read(bytes.subarray(read), read);
        if (count === 0) throw new RegistryError('incomplete', `a signature in ${key} has been cut`);
        read += count;
      }
      return bytes;
    },
    indexesOf: (digest) => catalog.images.parents(digest).filter((index) => catalog.grants.mayRead(key, index)),
  };
}
