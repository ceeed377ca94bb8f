import type { Digest } from '../../oci/digest.ts';

/** One line of a list of images. */
export interface WantedImages {
  /** As a person writes it; without a tag or digest the tag `latest` is meant, unless `tags` says otherwise. */
  readonly image: string;
  /** Tags, patterns and version ranges, as of parseTagSelector; the name has no tag and no digest then. */
  readonly tags?: readonly string[] | undefined;
  /** Only so many of the newest. */
  readonly limit?: number | undefined;
}

/** Which parts of an image to fetch; each line of the list may say otherwise. */
export interface FetchChoice {
  /** Such as `linux/arm64`; none: all. */
  readonly platforms?: readonly string[] | undefined;
  /** Whether signatures and whatever else refers to an image come with it; default: they do. */
  readonly referrers?: boolean | undefined;
}

export interface FetchParameters extends FetchChoice {
  readonly images: readonly (WantedImages & FetchChoice)[];
  /** Whether layers are wanted that registries need not hold; default: they are not. */
  readonly nondistributable?: boolean | undefined;
  /** Blobs fetched at a time; never more than half of the mirror's places for fills. Default: 6. */
  readonly concurrency?: number | undefined;
  /** Longest time spent on the pauses that an upstream asks for, for each thing; default: 15 minutes. */
  readonly longestPauseMs?: number | undefined;
}

/** What a fetch reports while it runs. Sizes in bytes; `image` with upstream, repository, and tag or digest. */
export type FetchEvent =
  /** All its manifests are here; which blobs are not is known. */
  | {
      readonly kind: 'resolved';
      readonly image: string;
      readonly digest: Digest;
      readonly manifests: number;
      readonly referrers: number;
      /** Platforms that were wanted and that it is not made for, where it is for others. */
      readonly lacks: readonly string[];
      readonly blobs: number;
      readonly bytes: number;
      /** Of these, what is not here. */
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
  /** A signature or the like that the upstream lists and does not have, or not all of it. */
  | { readonly kind: 'left-out'; readonly image: string; readonly name: string; readonly reason: string }
  | { readonly kind: 'waiting'; readonly image: string; readonly seconds: number; readonly reason: string }
  /** All of it is here, `fetched` of it since the fetch began. */
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
  /** How far all of it is: blobs that are not here, as far as they are known, each counted once. */
  | { readonly kind: 'total'; readonly doneBytes: number; readonly totalBytes: number; readonly images: number }
  /** The last one. */
  | {
      readonly kind: 'end';
      readonly images: number;
      /** How many are wholly here. */
      readonly fetched: number;
      readonly failed: number;
      readonly fetchedBytes: number;
      readonly failures: readonly { readonly image: string; readonly error: string }[];
    };
