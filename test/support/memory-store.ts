import type { Hash } from 'node:crypto';
import { type Digest, digestAlgorithm, finishDigest, hasherFor } from '../../src/oci/digest.ts';
import {
  type BlobFile,
  type BlobStore,
  type PartialBlob,
  type StoredBlob,
  smallBlobBytes,
} from '../../src/store/files/blob-store.ts';
import { Extents } from '../../src/store/files/extents.ts';

interface Content {
  readonly bytes: Buffer;
  readonly modifiedAtMs: number;
}

/** Blobs in memory, for code that only needs a store: it keeps what every {@link BlobStore} promises, and no disk. */
export class MemoryStore implements BlobStore {
  readonly #blobs = new Map<Digest, Content>();
  /** What partial blobs have left behind without a commit. */
  readonly #left = new Map<Digest, Buffer>();
  #atMs = 1_700_000_000_000;

  small(digest: Digest): Buffer | undefined {
    const bytes = this.#blobs.get(digest)?.bytes;
    return bytes !== undefined && bytes.length <= smallBlobBytes ? bytes : undefined;
  }

  mayHave(digest: Digest): boolean {
    return this.#blobs.has(digest);
  }

  async sync(): Promise<void> {}

  async open(digest: Digest): Promise<StoredBlob | undefined> {
    const content = this.#blobs.get(digest);
    if (content === undefined) return undefined;
    const { bytes, modifiedAtMs } = content;
    const isSmall = bytes.length <= smallBlobBytes;
    return {
      size: bytes.length,
      bytes: isSmall ? bytes : undefined,
      modifiedAtMs: isSmall ? undefined : modifiedAtMs,
      read: async (buffer, position) => bytes.copy(buffer, 0, position),
      [Symbol.asyncDispose]: async () => undefined,
    };
  }

  async ingest(digest: Digest, { isApart = false }: { readonly isApart?: boolean } = {}): Promise<PartialBlob> {
    const before = isApart ? undefined : this.#left.get(digest);
    return new MemoryPartial(digest, {
      before: before ?? Buffer.alloc(0),
      keep: (bytes) => {
        this.#atMs += 1;
        this.#blobs.set(digest, { bytes, modifiedAtMs: this.#atMs });
        if (!isApart) this.#left.delete(digest);
        return this.#atMs;
      },
      leave: (bytes) => {
        if (isApart) return;
        if (bytes === undefined) this.#left.delete(digest);
        else this.#left.set(digest, bytes);
      },
    });
  }

  async read(digest: Digest): Promise<Buffer | undefined> {
    return this.#blobs.get(digest)?.bytes;
  }

  async put(digest: Digest, bytes: Buffer): Promise<void> {
    this.#atMs += 1;
    this.#blobs.set(digest, { bytes, modifiedAtMs: this.#atMs });
  }

  async stat(digest: Digest): Promise<BlobFile | undefined> {
    const content = this.#blobs.get(digest);
    if (content === undefined) return undefined;
    return { size: content.bytes.length, modifiedAtMs: content.modifiedAtMs, usedAtMs: content.modifiedAtMs };
  }

  async setAside(digest: Digest): Promise<void> {
    this.#blobs.delete(digest);
  }

  async remove(digest: Digest): Promise<void> {
    this.#blobs.delete(digest);
  }
}

interface MemoryPlace {
  readonly before: Buffer;
  readonly keep: (bytes: Buffer) => number;
  readonly leave: (bytes: Buffer | undefined) => void;
}

class MemoryPartial implements PartialBlob {
  readonly #digest: Digest;
  readonly #place: MemoryPlace;
  readonly #ahead = new Extents();
  #bytes: Buffer;
  #written: number;
  #isOver = false;

  constructor(digest: Digest, place: MemoryPlace) {
    this.#digest = digest;
    this.#place = place;
    this.#bytes = place.before;
    this.#written = place.before.length;
  }

  get written(): number {
    return this.#written;
  }

  availableFrom(position: number): number {
    return position < this.#written ? this.#written : this.#ahead.endAt(position);
  }

  nextAvailable(position: number): number | undefined {
    return this.#ahead.startAfter(position);
  }

  hashSoFar(): Hash {
    return hasherFor(this.#digest).update(this.#bytes.subarray(0, this.#written));
  }

  async append(chunks: readonly Buffer[]): Promise<void> {
    await this.write(this.#written, chunks);
  }

  async write(position: number, chunks: readonly Buffer[]): Promise<void> {
    const added = Buffer.concat(chunks);
    const end = position + added.length;
    if (this.availableFrom(position) > position || (this.nextAvailable(position) ?? end) < end) {
      throw new Error(`bytes at ${position} are written twice`);
    }
    if (end > this.#bytes.length) this.#bytes = Buffer.concat([this.#bytes], end);
    added.copy(this.#bytes, position);
    this.#ahead.add(position, end);
    this.#written = this.#ahead.endAt(this.#written);
    this.#ahead.dropBelow(this.#written);
  }

  async read(buffer: Buffer, position: number, length: number): Promise<number> {
    return this.#bytes.copy(buffer, 0, position, Math.min(position + length, this.availableFrom(position)));
  }

  digest(): Digest {
    return finishDigest(digestAlgorithm(this.#digest), this.hashSoFar());
  }

  async restart(): Promise<void> {
    this.#bytes = Buffer.alloc(0);
    this.#written = 0;
    this.#ahead.clear();
  }

  async commit(): Promise<number> {
    this.#isOver = true;
    return this.#place.keep(this.#bytes.subarray(0, this.#written));
  }

  async discard(): Promise<void> {
    this.#isOver = true;
    this.#place.leave(undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isOver) this.#place.leave(Buffer.from(this.#bytes.subarray(0, this.#written)));
  }
}
