import { type Hash, randomUUID } from 'node:crypto';
import { constants, type FileHandle, open, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { writeAt } from '../../memory/write-at.ts';
import { type Digest, digestAlgorithm, finishDigest, hasherFor } from '../../oci/digest.ts';
import { type Claim, DiskFault, NoRoom, type PartialBlob, type Space } from './blob-store.ts';
import { Extents } from './extents.ts';
import { type Layout, syncDirectory, withFolders } from './layout.ts';
import { privateFile } from './private-folders.ts';
import { readAt } from './read-at.ts';

const rehashBytes = 1024 * 1024;
/** How far the prefix of a file with holes may have grown since its length was last noted beside the file. */
const notePrefixEveryBytes = 32 * 1024 * 1024;

/** Where a partial file belongs, and what is called when it grows, becomes visible and is closed. */
export interface PartialPlace {
  readonly layout: Layout;
  readonly digest: Digest;
  /** Waits for room for the blob before it becomes visible. */
  readonly space?: Space | undefined;
  readonly onClosed?: () => void;
}

/** Opens the partial file of a digest, new or left behind; what is left behind is hashed again. @throws DiskFault */
export function openPartial(place: PartialPlace): Promise<PartialFile> {
  return openPartialAt(place.layout.partial(place.digest), place);
}

/** A partial file without a shared name, which is of no use after a crash. @throws DiskFault */
export function openTemporary(place: PartialPlace): Promise<PartialFile> {
  return openPartialAt(`${place.layout.partial(place.digest)}.${randomUUID()}`, place);
}

async function openPartialAt(path: string, place: PartialPlace): Promise<PartialFile> {
  const { layout, digest } = place;
  try {
    // 'a+' would ignore positions on Linux, and 'r+' does not create.
    const handle = await withFolders(layout, () => open(path, constants.O_RDWR | constants.O_CREAT, privateFile));
    try {
      const { size } = await handle.stat();
      if (size > 0) await dropHoles(handle, path);
      const { hash, length } = size > 0 ? await hashOf(handle, digest) : { hash: hasherFor(digest), length: 0 };
      return new PartialFile({ handle, hash, written: length, path, place });
    } catch (error) {
      await handle.close().catch(() => undefined);
      throw error;
    }
  } catch (error) {
    throw error instanceof DiskFault ? error : new DiskFault('open a partial file', error);
  }
}

/** Names the file that says how much of a partial file is without holes; it exists only while there may be some. */
function prefixNote(path: string): string {
  return `${path}.prefix`;
}

async function dropHoles(handle: FileHandle, path: string): Promise<void> {
  const note = await readFile(prefixNote(path), 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
    return undefined;
  });
  if (note === undefined) return;
  const { size } = await handle.stat();
  await handle.truncate(Math.min(size, /^\d{1,15}$/.test(note) ? Number(note) : 0));
  await rm(prefixNote(path), { force: true });
}

async function hashOf(handle: FileHandle, digest: Digest): Promise<{ hash: Hash; length: number }> {
  const { size } = await handle.stat();
  const hash = hasherFor(digest);
  const buffer = Buffer.allocUnsafe(Math.min(size, rehashBytes));
  let position = 0;
  while (position < size) {
    const count = await readAt(handle, buffer, { position, length: Math.min(buffer.length, size - position) });
    hash.update(buffer.subarray(0, count));
    position += count;
  }
  return { hash, length: size };
}

/** A partial blob that is a file. */
export class PartialFile implements PartialBlob {
  readonly #handle: FileHandle;
  readonly #digest: Digest;
  readonly #path: string;
  readonly #layout: Layout;
  readonly #place: PartialPlace;
  /** The extents on disk above the prefix. */
  readonly #ahead = new Extents();
  #hash: Hash;
  #written: number;
  /** Whether a write is moving the end of the prefix. */
  #advancing = false;
  #hasFailed = false;
  #notedPrefix: number | undefined;
  /** Settles when the first note is on disk. */
  #noted: Promise<void> | undefined;

  constructor(parts: {
    handle: FileHandle;
    hash: Hash;
    written: number;
    path: string;
    place: PartialPlace;
  }) {
    this.#handle = parts.handle;
    this.#hash = parts.hash;
    this.#written = parts.written;
    this.#digest = parts.place.digest;
    this.#path = parts.path;
    this.#layout = parts.place.layout;
    this.#place = parts.place;
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
    return this.#hash.copy();
  }

  async append(chunks: readonly Buffer[]): Promise<void> {
    await this.write(this.#written, chunks);
  }

  async write(position: number, chunks: readonly Buffer[]): Promise<void> {
    // Bytes that have been hashed or may have been read are never written over.
    const end = position + chunks.reduce((sum, chunk) => sum + chunk.length, 0);
    const next = this.nextAvailable(position) ?? end;
    if (position < this.#written || this.availableFrom(position) > position || next < end) {
      throw new Error(`bytes at ${position} are written twice`);
    }
    if (this.#place.space?.mayGrow(this.#digest, end) === false) throw new NoRoom();
    try {
      if (position === this.#written && !this.#advancing) await this.#grow(chunks);
      else await this.#writeAhead(position, chunks);
    } catch (error) {
      this.#hasFailed = true;
      throw error instanceof DiskFault ? error : new DiskFault('write a blob', error);
    }
  }

  /** Writes the beginning of a file that is empty, which has been hashed already. @throws DiskFault */
  async adopt(chunks: readonly Buffer[], hash: Hash): Promise<void> {
    try {
      await writeAt(this.#handle, chunks, 0);
    } catch (error) {
      throw new DiskFault('write a blob', error);
    }
    this.#written = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
    this.#hash = hash;
  }

  read(buffer: Buffer, position: number, length: number): Promise<number> {
    const available = this.availableFrom(position) - position;
    return readAt(this.#handle, buffer, { position, length: Math.min(length, available) });
  }

  digest(): Digest {
    return finishDigest(digestAlgorithm(this.#digest), this.#hash.copy());
  }

  async restart(): Promise<void> {
    try {
      await this.#handle.truncate(0);
      await rm(prefixNote(this.#path), { force: true });
    } catch (error) {
      throw new DiskFault('truncate a partial file', error);
    }
    this.#ahead.clear();
    this.#notedPrefix = undefined;
    this.#noted = undefined;
    this.#hash = hasherFor(this.#digest);
    this.#written = 0;
  }

  async commit(): Promise<number | undefined> {
    const finalPath = this.#layout.blob(this.#digest);
    let claim: Claim | undefined;
    let isStored = false;
    try {
      // A write that failed half-way may have left bytes behind the last whole one.
      if (this.#hasFailed) await this.#handle.truncate(this.#written);
      await this.#handle.sync();
      const { mtimeMs } = await this.#handle.stat();
      claim = await this.#place.space?.claim(this.#digest, this.#written);
      if (claim?.isGranted === false) return undefined;
      await withFolders(this.#layout, () => rename(this.#path, finalPath));
      await syncDirectory(dirname(finalPath));
      if (this.#notedPrefix !== undefined) await rm(prefixNote(this.#path), { force: true });
      isStored = true;
      return mtimeMs;
    } catch (error) {
      throw new DiskFault('commit a blob', error);
    } finally {
      claim?.end(isStored);
    }
  }

  async discard(): Promise<void> {
    await rm(this.#path, { force: true }).catch(() => undefined);
    await rm(prefixNote(this.#path), { force: true }).catch(() => undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close().catch(() => undefined);
    this.#place.onClosed?.();
  }

  /** Writes at the end of the prefix, then takes in what had been written ahead of it. */
  async #grow(chunks: readonly Buffer[]): Promise<void> {
    this.#advancing = true;
    try {
      const before = this.#hash.copy();
      const writing = writeAt(this.#handle, chunks, this.#written);
      // The hash runs on this thread while the system writes on another.
      let length = 0;
      for (const chunk of chunks) {
        this.#hash.update(chunk);
        length += chunk.length;
      }
      await writing.catch((error: unknown) => {
        this.#hash = before;
        throw error;
      });
      this.#written += length;
    } catch (error) {
      this.#advancing = false;
      throw error;
    }
    await this.#takeIn();
  }

  async #writeAhead(position: number, chunks: readonly Buffer[]): Promise<void> {
    // No bytes are written ahead before it is on disk that there may be holes.
    await (this.#noted ??= this.#notePrefix());
    await writeAt(this.#handle, chunks, position);
    const length = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
    this.#ahead.add(position, position + length);
    if (this.#advancing) return;
    this.#advancing = true;
    await this.#takeIn();
  }

  /** Ends an advance: hashes what has been written ahead and now follows the prefix. */
  async #takeIn(): Promise<void> {
    let buffer: Buffer | undefined;
    try {
      while (true) {
        const end = this.#ahead.endAt(this.#written);
        // A write after this test sees that none is advancing any more.
        if (end === this.#written) return;
        buffer ??= Buffer.allocUnsafe(rehashBytes);
        const length = Math.min(buffer.length, end - this.#written);
        const count = await readAt(this.#handle, buffer, { position: this.#written, length });
        this.#hash.update(buffer.subarray(0, count));
        this.#written += count;
        this.#ahead.dropBelow(this.#written);
        if (this.#written - (this.#notedPrefix ?? this.#written) >= notePrefixEveryBytes) await this.#notePrefix();
      }
    } finally {
      this.#advancing = false;
    }
  }

  // Not synced: after a power loss the digest decides, as always.
  async #notePrefix(): Promise<void> {
    this.#notedPrefix = this.#written;
    await writeFile(prefixNote(this.#path), String(this.#written), { mode: privateFile });
  }
}
