/**
 * The most that an archive may contain. Archives are untrusted, so reading needs limits; writing respects the same ones,
 * so that archives can be read again.
 */

/** Maximum size of `index.json` and similar files, in bytes. */
export const maxListBytes = 16 * 1024 * 1024;
/** Maximum objects and lists in one of them: small ones cost far more memory than text. */
export const maxObjects = 200_000;
/** Maximum entries. */
export const maxEntries = 200_000;
/** Maximum characters of all entry names together: they are kept while the archive is open. */
export const maxNamesLength = 16 * 1024 * 1024;
/** Maximum images. */
export const maxImages = 20_000;
/** Maximum size of a manifest, in bytes. */
export const maxManifestBytes = 4 * 1024 * 1024;
/** Maximum bytes of the manifests of one image. */
export const maxImageManifestsBytes = 32 * 1024 * 1024;
/** Maximum bytes of all manifests, which are read one by one. */
export const maxManifestsBytes = 512 * 1024 * 1024;

/** An upper bound of the objects and lists in a JSON document. */
export function countObjects(document: Buffer): number {
  let count = 0;
  for (const byte of document) if (byte === 0x7b || byte === 0x5b) count += 1;
  return count;
}
