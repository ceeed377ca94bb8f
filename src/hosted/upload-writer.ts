import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { giveBack } from '../memory/slabs.ts';
import { writeAt } from '../memory/write-at.ts';
import { type Digest, type DigestAlgorithm, finishDigest } from '../oci/digest.ts';
import type { Slots } from '../waiting/slots.ts';
import { untilAborted } from '../waiting/until-aborted.ts';

/** The disk begins to write after so many bytes, and not with the last byte of a large blob. */
const syncEveryBytes = 64 * 1024 * 1024;

/** Bytes that are not hashed as they come are read again in pieces of this size. */
const pieceBytes = 1024 * 1024;

/** The system says so once: another sync of the same file may succeed though its content is lost. */
export class SyncError extends Error {
  constructor(cause: unknown) {
    super('the disk has not kept what was written', { cause });
  }
}

/** A sha256 that grows with what is written. */
export class RunningHash {
  readonly #hash: Hash = createHash('sha256');
  /** Bytes that it is the hash of. */
  length = 0;

  update(pieces: readonly Buffer[]): void {
    for (const piece of pieces) {
      this.#hash.update(piece);
      this.length += piece.length;
    }
  }

  copy(): Hash {
    return this.#hash.copy();
  }
}

export interface UploadWriterOptions {
  /** Where the first byte goes. */
  readonly at: number;
  /** How many files are synced at a time. */
  readonly syncs: Slots;
  /** Absent: nothing is hashed. */
  readonly hash: RunningHash | undefined;
}

/** Writes a chunk of an upload to its file. Hashing, writing and receiving go on at the same time. */
export class UploadWriter {
  readonly #handle: FileHandle;
  readonly #options: UploadWriterOptions;
  /** Behind the last byte that is written. */
  position: number;
  #syncedTo: number;
  #syncing: Promise<void> | undefined;
  #syncError: unknown;

  constructor(handle: FileHandle, options: UploadWriterOptions) {
    this.#handle = handle;
    this.#options = options;
    this.position = options.at;
    this.#syncedTo = options.at;
  }

  /**
   * Writes what comes, and gives its memory back. @param how `allow`: called, and waited for, with how many bytes the blob is about to have
   * @throws what the body or `allow` throws, the reason of the signal, SyncError, Error of the file system. What was
   *   written stays
   */
  async write(
    body: AsyncIterable<readonly Buffer[]>,
    { signal, allow }: { readonly signal: AbortSignal; readonly allow: (total: number) => unknown },
  ): Promise<void> {
    const batches = body[Symbol.asyncIterator]();
    try {
      while (this.#syncError === undefined) {
        const { value: pieces, done } = await untilAborted(batches.next(), signal);
        if (done === true) break;
        const bytes = pieces.reduce((sum, { length }) => sum + length, 0);
        await allow(this.position + bytes);
        await this.#writeBatch(pieces, bytes);
      }
    } catch (error) {
      // It counts for more that bytes are lost.
      await this.#synced();
      throw error;
    } finally {
      await batches.return?.();
    }
    await this.#synced();
  }

  /** Waits for the sync under way. @throws SyncError */
  async #synced(): Promise<void> {
    await this.#syncing;
    if (this.#syncError !== undefined) throw new SyncError(this.#syncError);
  }

  async #writeBatch(pieces: readonly Buffer[], bytes: number): Promise<void> {
    const { hash } = this.#options;
    const writing = writeAt(this.#handle, pieces, this.position);
    // Once something is missing in between, it hashes nothing any more.
    if (hash?.length === this.position) hash.update(pieces);
    await writing;
    this.position += bytes;
    // The garbage collector would let the memory of many pushes pile up.
    for (const piece of pieces) giveBack(piece);
    if (this.position - this.#syncedTo >= syncEveryBytes) this.#beginSync();
  }

  #beginSync(): void {
    if (this.#syncing !== undefined) return;
    this.#syncedTo = this.position;
    const { signal } = new AbortController();
    this.#syncing = this.#options.syncs
      .run(() => this.#handle.datasync(), { signal })
      .catch((error: unknown) => {
        this.#syncError = error;
      })
      .finally(() => {
        this.#syncing = undefined;
      });
  }
}

/**
 * The digest of an upload: as it was hashed while it came, or read again where it was not.
 * @param path its file. @throws Error of the file system
 */
export async function digestOfUpload(
  path: string,
  upload: { readonly size: number; readonly algorithm: DigestAlgorithm; readonly hash: RunningHash | undefined },
): Promise<Digest> {
  const { size, algorithm, hash: running } = upload;
  if (algorithm === 'sha256' && running?.length === size) return finishDigest(algorithm, running.copy());
  const hash = createHash(algorithm);
  for await (const piece of createReadStream(path, { highWaterMark: pieceBytes })) hash.update(piece as Buffer);
  return finishDigest(algorithm, hash);
}
