/**
 * What an archive may have. Whoever reads one need not trust it, so that there have to be limits; what is written keeps to
 * the same ones, so that it can be read.
 */

/** Longest `index.json` and the like, in bytes. */
export const maxListBytes = 16 * 1024 * 1024;
/** Most objects and lists in one of them: small ones cost far more memory than text. */
export const maxObjects = 200_000;
/** Most entries. */
export const maxEntries = 200_000;
/** Most characters of the names of all entries together: they are kept while the archive is open. */
export const maxNamesLength = 16 * 1024 * 1024;
/** Most images. */
export const maxImages = 20_000;
/** Longest manifest, in bytes. */
export const maxManifestBytes = 4 * 1024 * 1024;
/** Most bytes of the manifests of one image. */
export const maxImageManifestsBytes = 32 * 1024 * 1024;
/** Most bytes of all manifests: they are read one by one. */
export const maxManifestsBytes = 512 * 1024 * 1024;

/** How many objects and lists a document of JSON has at most. */
export function countObjects(document: Buffer): number {
  let count = 0;
  for (const byte of document) if (byte === 0x7b || byte === 0x5b) count += 1;
  return count;
}
