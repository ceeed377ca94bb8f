import { type FileHandle, open, rm, stat } from 'node:fs/promises';
import { LRUCache } from 'lru-cache';
import { type Digest, digestAlgorithm, digestOf } from '../oci/digest.ts';
import {
  type BlobFile,
  type BlobStore,
  DiskFault,
  type PartialBlob,
  type StoredBlob,
  smallBlobBytes,
} from './blob-store.ts';
import type { Layout } from './layout.ts';
import { openPartial, openTemporary } from './partial-file.ts';
import { quarantine } from './quarantine.ts';
import { readAt } from './read-at.ts';

/** What a {@link DiskStore} needs. */
export interface DiskStoreOptions {
  readonly layout: Layout;
  /** Upper bound, in bytes, of small blobs kept in memory. */
  readonly memoryBytes: number;
  /** A stored blob had been altered, and has been set aside. */
  readonly onAltered?: (digest: Digest) => void;
}

/** The content-addressed store on a local file system. */
export class DiskStore implements BlobStore {
  readonly #layout: Layout;
  readonly #small: LRUCache<Digest, Buffer>;

  readonly #onAltered: ((digest: Digest) => void) | undefined;

  constructor(options: DiskStoreOptions) {
    this.#onAltered = options.onAltered;
    this.#layout = options.layout;
    this.#small = new LRUCache({
      maxSize: Math.max(options.memoryBytes, 1),
      // An entry costs more than its content: the key, the Buffer object, the list around them.
      sizeCalculation: (bytes) => bytes.length + 300,
    });
  }

  small(digest: Digest): Buffer | undefined {
    return this.#small.get(digest);
  }

  async open(digest: Digest): Promise<StoredBlob | undefined> {
    const bytes = this.#small.get(digest);
    if (bytes !== undefined) return inMemory(bytes);
    let handle: FileHandle;
    try {
      handle = await open(this.#layout.blob(digest), 'r');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw new DiskFault('open a blob', error);
    }
    try {
      const { size, mtimeMs } = await handle.stat();
      if (size > smallBlobBytes) return new OpenFile(handle, { size, modifiedAtMs: mtimeMs });
      const content = await handle.readFile();
      await handle.close();
      return (await this.#admit(digest, content)) ? inMemory(content) : undefined;
    } catch (error) {
      await handle.close().catch(() => undefined);
      throw error instanceof DiskFault ? error : new DiskFault('read a blob', error);
    }
  }

  async ingest(digest: Digest): Promise<PartialBlob> {
    return await openPartial(this.#layout, digest);
  }

  async read(digest: Digest): Promise<Buffer | undefined> {
    const bytes = this.#small.get(digest);
    if (bytes !== undefined) return bytes;
    await using blob = await this.open(digest);
    if (!blob) return undefined;
    if (blob.bytes) return blob.bytes;
    const content = Buffer.allocUnsafe(blob.size);
    for (let position = 0; position < blob.size; ) position += await blob.read(content.subarray(position), position);
    return (await this.#admit(digest, content)) ? content : undefined;
  }

  async put(digest: Digest, bytes: Buffer): Promise<void> {
    this.#small.set(digest, bytes);
    await using partial = await openTemporary(this.#layout, digest);
    try {
      if (bytes.length > 0) await partial.append([bytes]);
      await partial.commit();
    } catch (error) {
      await partial.discard();
      throw error;
    }
  }

  async stat(digest: Digest): Promise<BlobFile | undefined> {
    try {
      const { size, mtimeMs, atimeMs } = await stat(this.#layout.blob(digest));
      return { size, modifiedAtMs: mtimeMs, usedAtMs: Math.round(Math.max(mtimeMs, atimeMs)) };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw new DiskFault('look at a blob', error);
    }
  }

  async setAside(digest: Digest): Promise<void> {
    this.#small.delete(digest);
    await quarantine(this.#layout, digest);
  }

  async remove(digest: Digest): Promise<void> {
    this.#small.delete(digest);
    try {
      await rm(this.#layout.blob(digest), { force: true });
    } catch (error) {
      throw new DiskFault('remove a blob', error);
    }
  }

  /** Takes content from disk into memory. @returns false where it has been altered: then it is set aside */
  async #admit(digest: Digest, content: Buffer): Promise<boolean> {
    // Where all of it is at hand this costs next to nothing.
    const isRight = digestOf(content, digestAlgorithm(digest)) === digest;
    if (isRight) this.#small.set(digest, content);
    else {
      await this.setAside(digest);
      this.#onAltered?.(digest);
    }
    return isRight;
  }
}

function inMemory(bytes: Buffer): StoredBlob {
  return {
    size: bytes.length,
    bytes,
    modifiedAtMs: undefined,
    read: (buffer, position) => Promise.resolve(bytes.copy(buffer, 0, position)),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

class OpenFile implements StoredBlob {
  readonly size: number;
  readonly bytes = undefined;
  readonly modifiedAtMs: number;
  readonly #handle: FileHandle;

  constructor(handle: FileHandle, { size, modifiedAtMs }: { size: number; modifiedAtMs: number }) {
    this.#handle = handle;
    this.size = size;
    this.modifiedAtMs = modifiedAtMs;
  }

  read(buffer: Buffer, position: number): Promise<number> {
    return readAt(this.#handle, buffer, { position, length: Math.min(buffer.length, this.size - position) });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close();
  }
}
