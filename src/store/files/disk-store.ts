import { existsSync } from 'node:fs';
import { type FileHandle, open, rm, stat } from 'node:fs/promises';
import { LRUCache } from 'lru-cache';
import { type Digest, digestAlgorithm, digestOf } from '../../oci/digest.ts';
import { blobFact, type Changes, nothingRemoved, unwatched } from '../../oci/facts.ts';
import { Tally } from '../../waiting/tally.ts';
import {
  type BlobFile,
  type BlobStore,
  DiskFault,
  type IngestOptions,
  type PartialBlob,
  type Space,
  type StoredBlob,
  smallBlobBytes,
} from './blob-store.ts';
import { openGrowing } from './growing-partial.ts';
import type { Layout } from './layout.ts';
import { inMemory, OpenFile } from './open-file.ts';
import { openTemporary, type PartialPlace } from './partial-file.ts';
import { isOdd, readFlags } from './plain-file.ts';
import { quarantine } from './quarantine.ts';
import { SmallFiles } from './small-files.ts';
import { type LeftPartial, leftPartials } from './sweep.ts';

export interface DiskStoreOptions {
  readonly layout: Layout;
  /** Upper bound, in bytes, of small blobs kept in memory. */
  readonly memoryBytes: number;
  /** A stored blob had been altered, and has been set aside. */
  readonly onAltered?: (digest: Digest) => void;
  /** A blob is not here any more: removed, evicted or set aside. */
  readonly onGone?: (digest: Digest) => void;
  /** Sees to it that there is room for what is on its way. */
  readonly space?: Space;
  /** Receives each blob that is removed, before and after; absent: no answers are kept. */
  readonly changes?: Changes;
}

/** The content-addressed store on a local file system. */
export class DiskStore implements BlobStore {
  readonly #layout: Layout;
  readonly #small: LRUCache<Digest, Buffer>;
  readonly #smallFiles = new SmallFiles();
  /** How many read a blob's file, write one that is to become it, or hold it. */
  readonly #users = new Tally();
  /** Files that are being removed: what is to be written in their place waits. */
  readonly #removals = new Map<Digest, Promise<unknown>>();
  readonly #space: Space | undefined;
  readonly #onAltered: ((digest: Digest) => void) | undefined;
  readonly #onGone: ((digest: Digest) => void) | undefined;
  readonly #changes: Changes;

  constructor(options: DiskStoreOptions) {
    this.#onGone = options.onGone;
    this.#changes = options.changes ?? unwatched;
    this.#onAltered = options.onAltered;
    this.#space = options.space;
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

  mayHave(digest: Digest): boolean {
    return this.#small.has(digest) || existsSync(this.#layout.blob(digest));
  }

  async open(digest: Digest): Promise<StoredBlob | undefined> {
    const bytes = this.#small.get(digest);
    if (bytes !== undefined) return inMemory(bytes);
    // A file that is on its way out would come back to memory, and stay there without a file.
    await this.#removals.get(digest)?.catch(() => undefined);
    const done = this.#use(digest);
    try {
      const blob = await this.#openFile(digest, done);
      // A file stays in use until it is closed.
      if (!(blob instanceof OpenFile)) done();
      return blob;
    } catch (error) {
      done();
      throw error;
    }
  }

  async #openFile(digest: Digest, onClosed: () => void): Promise<StoredBlob | undefined> {
    let handle: FileHandle;
    try {
      handle = await open(this.#layout.blob(digest), readFlags);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw new DiskFault('open a blob', error);
    }
    try {
      const stats = await handle.stat();
      const { size, mtimeMs } = stats;
      if (isOdd(stats)) {
        await handle.close();
        await this.#setAsideAltered(digest);
        return undefined;
      }
      if (size > smallBlobBytes)
        return new OpenFile(handle, { path: this.#layout.blob(digest), size, modifiedAtMs: mtimeMs, onClosed });
      const content = await handle.readFile();
      await handle.close();
      return (await this.#admit(digest, content)) ? inMemory(content) : undefined;
    } catch (error) {
      await handle.close().catch(() => undefined);
      throw error instanceof DiskFault ? error : new DiskFault('read a blob', error);
    }
  }

  async ingest(digest: Digest, { isApart = false, memory }: IngestOptions = {}): Promise<PartialBlob> {
    const space = this.#space;
    space?.begun(digest);
    return await this.#openForWriting(digest, async ({ onClosed, ...rest }) => {
      const place: PartialPlace = {
        ...rest,
        space,
        onClosed: () => {
          onClosed?.();
          // From now on the blob itself is no more in use than others.
          space?.closed(digest);
        },
      };
      return await openGrowing({ place, small: this.#smallFiles, isApart, memory });
    });
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
    await using partial = await this.#openForWriting(digest, openTemporary);
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
      const stats = await stat(this.#layout.blob(digest));
      if (isOdd(stats)) return undefined;
      const { size, mtimeMs, atimeMs } = stats;
      return { size, modifiedAtMs: mtimeMs, usedAtMs: Math.round(Math.max(mtimeMs, atimeMs)) };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw new DiskFault('look at a blob', error);
    }
  }

  async setAside(digest: Digest): Promise<void> {
    this.#goes(digest);
    await quarantine(this.#layout, digest);
    this.#isGone(digest);
  }

  async remove(digest: Digest): Promise<void> {
    this.#goes(digest);
    await this.#removing(digest, this.#layout.blob(digest));
    this.#isGone(digest);
  }

  /** A blob is read from its file elsewhere, until this is disposed: it is not evicted meanwhile. */
  reading(digest: Digest): Disposable {
    return { [Symbol.dispose]: this.#use(digest) };
  }

  /** Resolves when no power failure can take what has been stored so far. */
  sync(): Promise<void> {
    return this.#smallFiles.sync();
  }

  /** Whether a blob is being read from its file, brought here or held. */
  isInUse(digest: Digest): boolean {
    return this.#users.get(digest) > 0 || this.#removals.has(digest);
  }

  /** Keeps blobs from being evicted until it is disposed: those that are here, and those that are still to come. */
  async hold(digests: Iterable<Digest>): Promise<Disposable> {
    const held = [...digests];
    const ends = held.map((digest) => this.#use(digest));
    // A blob that is being removed already is gone when the caller looks.
    await Promise.allSettled(held.flatMap((digest) => this.#removals.get(digest) ?? []));
    return {
      [Symbol.dispose]: () => {
        for (const end of ends) end();
        this.#space?.look();
      },
    };
  }

  /**
   * Removes a blob unless it is in use.
   * @param onRemoved called when the file is gone, before another one can take its place
   * @returns whether it was removed
   * @throws DiskFault; what `onRemoved` throws
   */
  async evict(digest: Digest, onRemoved: () => void): Promise<boolean> {
    if (this.isInUse(digest)) return false;
    this.#goes(digest);
    await this.#removing(digest, this.#layout.blob(digest), onRemoved);
    this.#isGone(digest);
    return true;
  }

  /** The partial files, and whether they are open or held. */
  async partials(): Promise<(LeftPartial & { readonly isOpen: boolean })[]> {
    const found = await leftPartials(this.#layout);
    return found.map((partial) => ({ ...partial, isOpen: this.#users.get(partial.digest) > 0 }));
  }

  /** Removes a partial file unless the blob is in use. @throws DiskFault */
  async dropPartial(digest: Digest): Promise<boolean> {
    if (this.isInUse(digest)) return false;
    await this.#removing(digest, this.#layout.partial(digest));
    return true;
  }

  async #removing(digest: Digest, path: string, onRemoved: () => void = () => undefined): Promise<void> {
    const removal = rm(path, { force: true }).then(onRemoved, (error: unknown) => {
      throw new DiskFault(`remove ${path}`, error);
    });
    this.#removals.set(digest, removal);
    try {
      await removal;
    } finally {
      if (this.#removals.get(digest) === removal) this.#removals.delete(digest);
    }
  }

  /** Opens a file that is to become a blob; until it is closed the blob is in use. */
  async #openForWriting(digest: Digest, openFile: (place: PartialPlace) => Promise<PartialBlob>): Promise<PartialBlob> {
    const onClosed = this.#use(digest);
    try {
      // The file that is to come must not be taken for the one that is going.
      await this.#removals.get(digest)?.catch(() => undefined);
      return await openFile({ layout: this.#layout, digest, onClosed });
    } catch (error) {
      onClosed();
      throw error;
    }
  }

  /** @returns what ends the use; calling it again does nothing */
  #use(digest: Digest): () => void {
    this.#users.add(digest, 1);
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      this.#users.add(digest, -1);
    };
  }

  /** Takes content from disk into memory. @returns false where it has been altered: then it is set aside */
  async #admit(digest: Digest, content: Buffer): Promise<boolean> {
    // Where all of it is at hand this costs next to nothing.
    const isRight = digestOf(content, digestAlgorithm(digest)) === digest;
    if (isRight) this.#small.set(digest, content);
    else await this.#setAsideAltered(digest);
    return isRight;
  }

  /** Called before the file of a blob is touched: from now on nothing is served of it that needs no look at the disk. */
  #goes(digest: Digest): void {
    this.#small.delete(digest);
    this.#changes.changed(blobFact(digest));
  }

  #isGone(digest: Digest): void {
    this.#changes.changed(blobFact(digest));
    this.#changes.changed(nothingRemoved);
    this.#onGone?.(digest);
  }

  async #setAsideAltered(digest: Digest): Promise<void> {
    await this.setAside(digest);
    this.#onAltered?.(digest);
  }
}
