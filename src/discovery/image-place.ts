import type { Digest } from '../oci/digest.ts';

/** Why an image stays, or for how long. */
export type KeptBy =
  /** It lives here alone, and is never evicted. */
  | 'hosted'
  /** An operator has pinned it by this name. */
  | 'pin'
  /** `cache.pins`, or a pin of another image that it belongs to. */
  | 'pinned'
  /** It was used lately: nothing else is left before it goes. */
  | 'recent'
  /** It goes when it is the least used. */
  | 'use';

/** A manifest that names another one as its subject. */
export interface ShownReferrer {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly size: number;
  readonly artifactType?: string | undefined;
  readonly annotations?: Readonly<Record<string, string>> | undefined;
}

/** An image in a repository, as cached or hosted. */
export interface ImagePlace {
  readonly digest: Digest;
  readonly contentType: string;
  readonly bytes: Buffer;
  /** The origin of the image, as far as it is known. */
  readonly source: {
    /** `docker.io`; null for a hosted one. */
    readonly upstream: string | null;
    /** `upstream`, `replica`, `archive` or `push`; null: not noted. */
    readonly by: string | null;
  };
  readonly cachedAtMs: number;
  /** When the upstream last confirmed the tag; `undefined` for a digest, or never. */
  readonly checkedAtMs: number | undefined;
  readonly kept: KeptBy;
  referrers(): Promise<readonly ShownReferrer[]>;
  /** Where a blob that the repository may read is stored; `undefined` if it is not. */
  blob(digest: Digest): Promise<{ readonly path: string; readonly size: number } | undefined>;
  /** Whether a manifest is stored with all that it needs; an index with one of its images at least. */
  isWhole(digest: Digest, contentType: string): Promise<boolean>;
  /** Other repositories that have a blob; `undefined` where that is not known. */
  sharers(digest: Digest): readonly string[] | undefined;
}
