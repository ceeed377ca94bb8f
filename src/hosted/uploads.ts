import { createHash, type Hash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, open, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Digest, digestAlgorithm, finishDigest } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import { Locks } from '../waiting/locks.ts';
import { makeFolder, namesIn, putFile, readText, sizeOf } from './durable-files.ts';
import type { HostedLayout } from './layout.ts';

/** Gathered before they are written, in bytes: fewer and larger writes. */
const batchBytes = 1024 * 1024;
const idForm = /^[0-9a-f]{32}$/;

export interface UploadsOptions {
  readonly layout: HostedLayout;
  /** Largest blob, in bytes. */
  readonly maxBlobBytes: number;
  /** A session that nothing was sent to for so long is removed, in milliseconds. */
  readonly expiryMs: number;
  /** Wall clock in milliseconds. */
  readonly now: () => number;
}

/** A chunk of a blob as it arrives. */
export interface Chunk {
  readonly body: AsyncIterable<Buffer>;
  /** Where it belongs, by `Content-Range`: bytes `start` to `end` (exclusive). Absent: at the end of what is there. */
  readonly range?: { readonly start: number; readonly end: number } | undefined;
  /** `Content-Length`, in bytes. */
  readonly length?: number | undefined;
  /** Called before bytes are written, with how many there are by then. @throws what the caller thinks of it, such as a quota */
  readonly onBytes?: ((total: number) => void) | undefined;
}

/** A session as a client sees it. */
export interface Upload {
  readonly id: string;
  /** Bytes that are here. */
  readonly received: number;
}

/** A blob that has arrived whole and right, in a file that is synced. */
export interface Arrived {
  readonly path: string;
  readonly size: number;
}

/**
 * Blobs on their way here (distribution-spec, "Pushing blobs"). A session is a folder with the bytes so far and the
 * repository it belongs to, so it outlives the process; the offset is the size of the file, wherever it was written.
 */
export class Uploads {
  readonly #options: UploadsOptions;
  readonly #locks = new Locks();
  /** The running sha256 of sessions that have been written to since the start, and how far it goes. */
  readonly #hashes = new Map<string, { readonly hash: Hash; length: number }>();

  constructor(options: UploadsOptions) {
    this.#options = options;
  }

  /** Begins a session. @throws Error of the file system */
  async begin(repository: string): Promise<Upload> {
    const id = randomBytes(16).toString('hex');
    const folder = this.#options.layout.upload(id);
    await makeFolder(folder);
    await using handle = await open(join(folder, 'data'), 'wx', 0o600);
    await handle.sync();
    await putFile(join(folder, 'repository'), repository);
    return { id, received: 0 };
  }

  /** @throws RegistryError BLOB_UPLOAD_UNKNOWN */
  async get(repository: string, id: string): Promise<Upload> {
    return { id, received: await this.#received(repository, id) };
  }

  /**
   * Adds a chunk. What arrived before the client left stays, to be continued.
   * @throws RegistryError BLOB_UPLOAD_UNKNOWN; 416 where the chunk does not follow what is here; SIZE_INVALID; the
   *   session
   *   goes on after the latter two
   */
  async append(repository: string, id: string, chunk: Chunk): Promise<Upload> {
    using _ = await this.#locks.take(id);
    return { id, received: await this.#append(repository, id, chunk) };
  }

  /**
   * Ends a session with its last chunk, if any, and checks the digest of the whole.
   * @param keep takes the file where the digest is right; the session is gone when it has resolved
   * @throws RegistryError as {@link append}; DIGEST_INVALID, which ends the session too
   */
  async finish<Result>(
    repository: string,
    id: string,
    { digest, chunk, keep }: { digest: Digest; chunk: Chunk; keep: (arrived: Arrived) => Promise<Result> },
  ): Promise<Result> {
    using _ = await this.#locks.take(id);
    const size = await this.#append(repository, id, chunk);
    const path = this.#data(id);
    const actual = await this.#digest(id, { digest, path, size });
    if (actual !== digest) {
      await this.#remove(id);
      throw new RegistryError('damaged', `the ${size} bytes that were sent are not the blob of that digest`, {
        detail: { expected: digest, actual },
      });
    }
    await using handle = await open(path, 'r');
    await handle.sync();
    const result = await keep({ path, size });
    await this.#remove(id);
    return result;
  }

  /** @throws RegistryError BLOB_UPLOAD_UNKNOWN */
  async cancel(repository: string, id: string): Promise<void> {
    using _ = await this.#locks.take(id);
    await this.#received(repository, id);
    await this.#remove(id);
  }

  /** Removes sessions that nothing was sent to for too long. @returns how many */
  async sweep(): Promise<number> {
    const { layout, expiryMs, now } = this.#options;
    let removed = 0;
    for (const id of await namesIn(layout.uploads)) {
      using _ = await this.#locks.take(id);
      const usedAtMs = await stat(this.#data(id)).then(
        ({ mtimeMs }) => mtimeMs,
        () => 0,
      );
      if (now() - usedAtMs < expiryMs) continue;
      await this.#remove(id);
      removed += 1;
    }
    return removed;
  }

  async #append(repository: string, id: string, { body, range, length, onBytes }: Chunk): Promise<number> {
    const received = await this.#received(repository, id);
    if (range !== undefined && range.start !== received) throw outOfOrder(range, received);
    if (range !== undefined && length !== undefined && length !== range.end - range.start) {
      throw new RegistryError('wrong-length', 'Content-Range and Content-Length do not agree');
    }
    if (length !== undefined) this.#allow(received + length, onBytes);
    await using handle = await open(this.#data(id), 'r+');
    const written = await this.#write(handle, { id, at: received, body, onBytes });
    const expected = range === undefined ? length : range.end - range.start;
    if (expected === undefined || written === expected) return received + written;
    // What is wrong of a chunk is not kept: its sender begins it again.
    await handle.truncate(received);
    this.#hashes.delete(id);
    throw new RegistryError('wrong-length', `the chunk has ${written} bytes instead of ${expected}`);
  }

  /** @returns bytes written. What was written when the body failed stays */
  async #write(
    handle: FileHandle,
    { id, at, body, onBytes }: { id: string; at: number } & Pick<Chunk, 'body' | 'onBytes'>,
  ): Promise<number> {
    let waiting: Buffer[] = [];
    let waitingBytes = 0;
    let position = at;
    const flush = async (): Promise<void> => {
      if (waitingBytes === 0) return;
      const [pieces, bytes] = [waiting, waitingBytes];
      [waiting, waitingBytes] = [[], 0];
      await writeAll(handle, pieces, position);
      this.#hashed(id, { at: position, pieces });
      position += bytes;
    };
    try {
      for await (const piece of body) {
        this.#allow(position + waitingBytes + piece.length, onBytes);
        waiting.push(piece);
        waitingBytes += piece.length;
        if (waitingBytes >= batchBytes) await flush();
      }
    } finally {
      await flush();
    }
    return position - at;
  }

  #allow(total: number, onBytes: Chunk['onBytes']): void {
    const { maxBlobBytes } = this.#options;
    if (total > maxBlobBytes) {
      throw new RegistryError('blob-too-large', `a blob may have at most ${maxBlobBytes} bytes here`);
    }
    onBytes?.(total);
  }

  #hashed(id: string, { at, pieces }: { at: number; pieces: readonly Buffer[] }): void {
    let running = this.#hashes.get(id);
    if (running === undefined && at === 0) {
      running = { hash: createHash('sha256'), length: 0 };
      this.#hashes.set(id, running);
    }
    if (running?.length !== at) return;
    for (const piece of pieces) {
      running.hash.update(piece);
      running.length += piece.length;
    }
  }

  /** The digest of what is here: as it was hashed while it came, or read again where it was not. */
  async #digest(id: string, { digest, path, size }: { digest: Digest; path: string; size: number }): Promise<Digest> {
    const algorithm = digestAlgorithm(digest);
    const running = this.#hashes.get(id);
    if (algorithm === 'sha256' && running?.length === size) return finishDigest(algorithm, running.hash.copy());
    const hash = createHash(algorithm);
    for await (const piece of createReadStream(path, { highWaterMark: batchBytes })) hash.update(piece as Buffer);
    return finishDigest(algorithm, hash);
  }

  async #received(repository: string, id: string): Promise<number> {
    const owner = idForm.test(id) ? await readText(join(this.#options.layout.upload(id), 'repository')) : undefined;
    const size = owner === repository ? await sizeOf(this.#data(id)) : undefined;
    if (size === undefined) {
      throw new RegistryError('unknown-upload', 'there is no such upload in this repository: begin again with POST');
    }
    return size;
  }

  #data(id: string): string {
    return join(this.#options.layout.upload(id), 'data');
  }

  async #remove(id: string): Promise<void> {
    this.#hashes.delete(id);
    await rm(this.#options.layout.upload(id), { recursive: true, force: true });
  }
}

function outOfOrder(range: { readonly start: number }, received: number): RegistryError {
  return new RegistryError('out-of-order', `the chunk begins at ${range.start}; the next byte here is ${received}`, {
    detail: { received },
  });
}

async function writeAll(handle: FileHandle, pieces: readonly Buffer[], at: number): Promise<void> {
  let position = at;
  for (let left = [...pieces]; left.length > 0; ) {
    const { bytesWritten } = await handle.writev(left, position);
    position += bytesWritten;
    let skip = bytesWritten;
    while (left.length > 0 && skip >= left[0]!.length) skip -= left.shift()!.length;
    if (skip > 0) left[0] = left[0]!.subarray(skip);
  }
}
