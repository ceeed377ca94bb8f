import type { Digest } from '../../oci/digest.ts';

/** One line of a list of images. */
export interface WantedImages {
  /** As a person writes it; without a tag or digest, the tag `latest`, unless `tags` says otherwise. */
  readonly image: string;
  /** Tags, patterns and version ranges, see parseTagSelector; the name then has no tag and no digest. */
  readonly tags?: readonly string[] | undefined;
  /** Only this many of the newest. */
  readonly limit?: number | undefined;
}

/** Which parts of an image to fetch; each line of the list may override it. */
export interface FetchChoice {
  /** Such as `linux/arm64`; empty: all. */
  readonly platforms?: readonly string[] | undefined;
  /** Whether to fetch signatures and other referrers; default: yes. */
  readonly referrers?: boolean | undefined;
}

export interface FetchParameters extends FetchChoice {
  readonly images: readonly (WantedImages & FetchChoice)[];
  /** Whether to fetch layers that registries need not hold; default: no. */
  readonly nondistributable?: boolean | undefined;
  /** Concurrent blob downloads; at most half of the mirror's fill slots. Default: 6. */
  readonly concurrency?: number | undefined;
  /** Maximum time to wait for pauses of an upstream, per request; default: 15 minutes. */
  readonly longestPauseMs?: number | undefined;
}

/** The events of a fetch. Sizes in bytes; `image` with upstream, repository, and tag or digest. */
export type FetchEvent =
  /** All its manifests are stored; which blobs are missing is known. */
  | {
      readonly kind: 'resolved';
      readonly image: string;
      readonly digest: Digest;
      readonly manifests: number;
      readonly referrers: number;
      /** Requested platforms that it does not have, if it has others. */
      readonly lacks: readonly string[];
      readonly blobs: number;
      readonly bytes: number;
      /** Of these, what is not stored. */
      readonly missingBlobs: number;
      readonly missingBytes: number;
    }
  | {
      readonly kind: 'blob';
      readonly image: string;
      readonly digest: Digest;
      readonly doneBytes: number;
      readonly totalBytes: number | null;
      readonly isDone: boolean;
    }
  /** An attachment that the upstream lists and does not have completely. */
  | { readonly kind: 'left-out'; readonly image: string; readonly name: string; readonly reason: string }
  /** It is fetched, and clients that pull it get this warning. */
  | { readonly kind: 'warned'; readonly image: string; readonly warning: string }
  | { readonly kind: 'waiting'; readonly image: string; readonly seconds: number; readonly reason: string }
  /** It is complete; `fetched` of it since the fetch began. */
  | {
      readonly kind: 'fetched';
      readonly image: string;
      readonly digest: Digest;
      readonly lacks: readonly string[];
      readonly blobs: number;
      readonly bytes: number;
      readonly fetchedBlobs: number;
      readonly fetchedBytes: number;
    }
  | { readonly kind: 'failed'; readonly image: string; readonly error: string }
  /** Overall progress: known blobs that are not stored, each counted once. */
  | { readonly kind: 'total'; readonly doneBytes: number; readonly totalBytes: number; readonly images: number }
  /** The last one. */
  | {
      readonly kind: 'end';
      readonly images: number;
      /** How many are complete. */
      readonly fetched: number;
      readonly failed: number;
      readonly fetchedBytes: number;
      readonly failures: readonly { readonly image: string; readonly error: string }[];
    };
