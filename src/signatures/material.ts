import type { Digest } from '../oci/digest.ts';

/** Ends a wait. */
export interface Waiting {
  readonly signal: AbortSignal;
}

/** The content of a repository beside its images: read through the mirror, so that it is stored and there without its upstream. */
export interface Material {
  /** A manifest by tag or digest. @returns `undefined` if there is none @throws RegistryError if that cannot be told */
  manifest(reference: string, waiting: Waiting): Promise<Buffer | undefined>;
  /** The index of what names a digest as its subject. @throws RegistryError */
  referrers(digest: Digest, waiting: Waiting): Promise<Buffer>;
  /** A small blob, whole. @throws RegistryError, also where it is longer than allowed */
  blob(digest: Digest, options: Waiting & { readonly maxBytes: number }): Promise<Buffer>;
  /** Stored indexes of the same repository that list a manifest. */
  indexesOf(digest: Digest): readonly Digest[];
}
