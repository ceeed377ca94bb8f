import type { Digest } from '../../oci/digest.ts';

/** Blobs that are not evicted while an archive is imported. */
export interface HeldBlobs {
  /** Those that are not on the disk in their right size. */
  readonly lacking: readonly Digest[];
  /** Those that the archive is not known to have brought. */
  readonly undelivered: readonly Digest[];
  /** Whether there is room for those that are missing, which is theirs until the command leaves. */
  readonly isReserved: boolean;
}

/** Whether the cache has room for what an archive brings. */
export interface ImportRoom {
  readonly isEnough: boolean;
  readonly pinnedBytes: number;
  readonly maxSizeBytes: number;
}

/** The result for a blob that was sent. */
export interface ReceivedBlob {
  /** Whether all its bytes were hashed; not so where the blob has come another way meanwhile. */
  readonly isTaken: boolean;
  /** One sentence, where the bytes do not match the digest. */
  readonly wrong?: string;
}

/** An image to be named. */
export interface NewImage {
  /** Full name, with a tag or a digest. */
  readonly name: string;
  readonly digest: Digest;
  /** The media type of its manifest, where that does not say it itself. */
  readonly mediaType: string;
}

/**
 * The change that naming an image makes in the cache: `older` and `newer` move a tag from another image, by when the two were made
 * or came here; `moved` does too, and nothing says which of them is older.
 */
export type ImageChange = 'new' | 'same' | 'older' | 'newer' | 'moved';

/** The content of the cache under the name of an image that an archive brings. */
export interface KnownName {
  /** In full. */
  readonly name: string;
  /** The digest that it stands for now; `null`: none. */
  readonly now: Digest | null;
  readonly change: ImageChange;
  /** Of `moved`: when the image that it stands for now was made, in milliseconds, where that is known. */
  readonly createdAtMs: number | null;
}

/** The result for an image. */
export interface AdoptedImage {
  /** As the cache names it. */
  readonly name: string;
  readonly digest: Digest;
  /** Its missing parts. */
  readonly leftOut: readonly MissingPart[];
}

/** An image that there is something wrong with. */
export interface RefusedImage {
  readonly name: string;
  /** One sentence. */
  readonly refused: string;
  /** The manifest or blob that it lacks, where that is the reason. */
  readonly lacks?: Digest | undefined;
}

/** A part of an index that is not whole here. */
export interface MissingPart {
  /** Its platform as `os/architecture`, or its digest. */
  readonly name: string;
  /** The manifest or blob that it lacks. */
  readonly lacks: Digest;
}

/** The message about a received blob whose bytes have another digest. */
export function otherBytes(digest: Digest): string {
  return `the bytes of ${digest} are other ones than its digest says`;
}
