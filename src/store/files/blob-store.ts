import type { Hash } from 'node:crypto';
import type { Slabs } from '../../memory/slabs.ts';
import type { Digest } from '../../oci/digest.ts';

/** Blobs up to this many bytes are kept in memory once read and are served without a file system call. */
export const smallBlobBytes = 64 * 1024;

/** Blobs up to this many bytes are written when all of them has come, as long as there is memory. */
export const heldBlobBytes = 1024 * 1024;

/** A whole, verified blob, open for reading; stays readable when the blob is removed meanwhile. */
export interface StoredBlob extends AsyncDisposable {
  readonly size: number;
  /** The content, where it is small enough to be held in memory. */
  readonly bytes: Buffer | undefined;
  /** When its file was last written to, in milliseconds; `undefined` where the content has been verified just now. */
  readonly modifiedAtMs: number | undefined;
  /** Of its file; absent where the content is in memory. */
  readonly path?: string;
  /**
   * Reads into `buffer` from `position` on.
   * @returns bytes read: at least 1 before the end
   * @throws DiskFault
   */
  read(buffer: Buffer, position: number): Promise<number>;
}

/**
 * A blob on its way to the disk: a file under `ingest/` that is not visible as the blob before {@link commit}. It grows
 * from its beginning, and bytes may be written ahead of that; the hash follows the unbroken prefix. Disposing it without
 * commit or discard keeps the file, so that its prefix can be continued.
 */
export interface PartialBlob extends AsyncDisposable {
  /** Bytes on disk, contiguous from 0. */
  readonly written: number;
  /** Up to where bytes can be read from `position` on; `position` itself where there are none. */
  availableFrom(position: number): number;
  /** Where the next stretch begins that has been written ahead, above `position`. */
  nextAvailable(position: number): number | undefined;
  /** A copy of the running hash of the bytes from 0 to {@link written}. */
  hashSoFar(): Hash;
  /** Adds bytes at the end of the prefix. On failure {@link written} and the hash are as before. @throws DiskFault */
  append(chunks: readonly Buffer[]): Promise<void>;
  /** Writes bytes at a position where none are yet. Several may write at a time, each in its own place. @throws DiskFault */
  write(position: number, chunks: readonly Buffer[]): Promise<void>;
  /** Reads bytes that are there; possible until disposal, also after commit. @throws DiskFault */
  read(buffer: Buffer, position: number, length: number): Promise<number>;
  /** The digest of what is written, to be compared with the one wanted. */
  digest(): Digest;
  /** Forgets what is written and begins at 0 again. @throws DiskFault */
  restart(): Promise<void>;
  /**
   * Makes the file visible as the blob: fsync, rename, fsync of the directory. The caller has verified it.
   * @returns when it was last written to, in milliseconds; `undefined` where there is no room for it: the file is unchanged
   * @throws DiskFault
   */
  commit(): Promise<number | undefined>;
  /** Removes the file. */
  discard(): Promise<void>;
}

/** The file of a blob; times in milliseconds since 1970. */
export interface BlobFile {
  readonly size: number;
  readonly modifiedAtMs: number;
  /** When it was last read or written to, as far as the file system notes it, to the millisecond. */
  readonly usedAtMs: number;
}

/** Gives out room within the budget of the cache. */
export interface Space {
  /** A blob is about to be brought here. */
  begun(digest: Digest): void;
  /** Whether the file that is to become a blob may grow to so many bytes. */
  mayGrow(digest: Digest, bytes: number): boolean;
  /** Waits until there is room for a blob, or it is clear that there will be none. Never rejects. */
  claim(digest: Digest, bytes: number): Promise<Claim>;
  /** The file that is to become a blob is closed. */
  closed(digest: Digest): void;
  /** Something is not in use any more. */
  look(): void;
}

/** The room of a blob that is complete. */
export interface Claim {
  /** Whether it may become visible. */
  readonly isGranted: boolean;
  /** To be called when the blob is counted among what is stored, by the end of that turn, or is not to be. */
  end(isStored: boolean): void;
}

export interface IngestOptions {
  readonly isApart?: boolean;
  readonly memory?: Slabs | undefined;
}

/** The blobs on this replica's disk. */
export interface BlobStore {
  /** The content of a small blob that is in memory. */
  small(digest: Digest): Buffer | undefined;
  /** Whether {@link open} may find a blob that has no row in a catalog: by its name alone, without opening it. */
  mayHave(digest: Digest): boolean;
  /** @returns `undefined` where the blob is not here. @throws DiskFault */
  open(digest: Digest): Promise<StoredBlob | undefined>;
  /**
   * The partial file of a digest: a new one, or the one an earlier run left behind, hashed again.
   * At most one is open per digest; the caller sees to it.
   * @param options `isApart`: a file of its own beside that one, which is of no use after a crash; `memory`: what the bytes
   *   come in, where they may stay until all of a blob of up to {@link heldBlobBytes} has come
   * @throws DiskFault
   */
  ingest(digest: Digest, options?: IngestOptions): Promise<PartialBlob>;
  /** The whole content of a blob that the caller knows to be small enough, such as a manifest. @throws DiskFault */
  read(digest: Digest): Promise<Buffer | undefined>;
  /** Stores content that is in memory and that the caller has verified. @throws DiskFault; {@link small} has it even then */
  put(digest: Digest, bytes: Buffer): Promise<void>;
  /** The size and time of the file of a blob; `undefined` where the blob is not here. @throws DiskFault */
  stat(digest: Digest): Promise<BlobFile | undefined>;
  /** Takes a blob whose content is wrong out of the way, and keeps it for a while for diagnosis. @throws DiskFault */
  setAside(digest: Digest): Promise<void>;
  /** Resolves when no power failure can take what has been stored so far. */
  sync(): Promise<void>;
  /** Removes a blob; removing what is not here is no error. @throws DiskFault */
  remove(digest: Digest): Promise<void>;
}

/** The disk could not do what was asked: full, read-only, an I/O error. Never an answer about a blob. */
export class DiskFault extends Error {
  override readonly name = 'DiskFault';
  /** The system's code, such as `ENOSPC`. */
  readonly code: string;

  constructor(action: string, cause: unknown) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'EUNKNOWN';
    super(`cannot ${action}: ${code}`, { cause });
    this.code = code;
  }
}

/** The budget of the cache has no room for a blob: it passes through, and the disk is not to blame. */
export class NoRoom extends DiskFault {
  constructor() {
    super('keep a blob', Object.assign(new Error('the cache has no room for it'), { code: 'ENOROOM' }));
  }
}
