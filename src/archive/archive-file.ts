import { createReadStream } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { basename } from 'node:path';
import { pipeline, Readable } from 'node:stream';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { ArchiveError } from './archive-error.ts';
import type { Cursor } from './cursor.ts';

type Compression = 'gzip' | 'zstd' | 'none';

const chunkBytes = 1024 * 1024;
/** What is compressed may become so many times larger, beside a first part: nothing that anybody archives does. */
const maxExpansion = 200;
const freeExpansionBytes = 1024 * 1024 * 1024;

interface Part {
  readonly path: string;
  readonly handle: FileHandle;
  readonly size: number;
}

/** The bytes of an archive that lies in one file, or in parts that follow one another. */
export class ArchiveFile implements AsyncDisposable {
  readonly #parts: readonly Part[];
  readonly #compression: Compression;
  readonly #signal: AbortSignal | undefined;

  private constructor(parts: readonly Part[], compression: Compression, signal: AbortSignal | undefined) {
    this.#parts = parts;
    this.#compression = compression;
    this.#signal = signal;
  }

  /**
   * @param paths in their order
   * @param signal ends all that is read
   * @throws ArchiveError
   */
  static async open(paths: readonly string[], signal?: AbortSignal): Promise<ArchiveFile> {
    await using owned = new AsyncDisposableStack();
    const parts: Part[] = [];
    for (const path of paths) {
      const handle = owned.use(await openFile(path));
      const found = await handle.stat();
      if (!found.isFile()) throw new ArchiveError(`${path} is not a file`);
      parts.push({ path, handle, size: found.size });
    }
    const magic = Buffer.alloc(6);
    await parts[0]?.handle.read(magic, 0, magic.length, 0);
    const file = new ArchiveFile(parts, compressionOf(magic), signal);
    owned.move();
    return file;
  }

  /** Whether what is not wanted costs nothing. */
  get isSeekable(): boolean {
    return this.#compression === 'none';
  }

  /** Bytes of all parts. */
  get size(): number {
    return this.#parts.reduce((sum, part) => sum + part.size, 0);
  }

  /**
   * Goes through it from a position on; a compressed one from its beginning only. What it does throws ArchiveError, and the
   * signal's reason.
   */
  cursor(position = 0): Cursor {
    if (this.#compression === 'none') return new FileCursor(this.#parts, { position, signal: this.#signal });
    if (position !== 0) throw new Error('a compressed archive is read from its beginning');
    const maxBytes = freeExpansionBytes + maxExpansion * this.size;
    return new StreamCursor(decompressed(this.#parts, this.#compression), { maxBytes, signal: this.#signal });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#parts.map(({ handle }) => handle.close()));
  }
}

async function openFile(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new ArchiveError(code === 'ENOENT' ? `there is no ${path}` : `${path} cannot be opened: ${code}`, {
      cause: error,
    });
  }
}

function compressionOf(magic: Buffer): Compression {
  const hex = magic.toString('hex');
  if (hex.startsWith('1f8b')) return 'gzip';
  // What compresses in parallel begins with a frame that is to be skipped (RFC 8878, 3.1.2).
  if (hex.startsWith('28b52ffd') || /^5[0-9a-f]2a4d18/.test(hex)) return 'zstd';
  if (hex === 'fd377a585a00' || hex.startsWith('425a68')) {
    throw new ArchiveError('it is compressed with xz or bzip2: unpack it to a plain tar archive first');
  }
  return 'none';
}

/** Reads the parts as one file; what is not wanted is not read. */
class FileCursor implements Cursor {
  readonly #parts: readonly Part[];
  readonly #size: number;
  readonly #signal: AbortSignal | undefined;
  position: number;

  constructor(parts: readonly Part[], { position, signal }: { position: number; signal: AbortSignal | undefined }) {
    this.#parts = parts;
    this.#signal = signal;
    this.#size = parts.reduce((sum, part) => sum + part.size, 0);
    this.position = position;
  }

  async read(length: number): Promise<Buffer> {
    this.#signal?.throwIfAborted();
    const buffer = Buffer.allocUnsafe(length);
    let count = 0;
    let start = 0;
    for (const { handle, size, path } of this.#parts) {
      const from = this.position + count - start;
      if (from < size && count < length) {
        const wanted = Math.min(length - count, size - from);
        const { bytesRead } = await readPart(handle, buffer, { offset: count, length: wanted, from, path });
        count += bytesRead;
        if (bytesRead < wanted) throw new ArchiveError(`${path} has become shorter`);
      }
      start += size;
    }
    this.position += count;
    return buffer.subarray(0, count);
  }

  skipTo(position: number, within: string): Promise<void> {
    if (position > this.#size) return Promise.reject(cutShort(within));
    this.position = position;
    return Promise.resolve();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve();
  }
}

async function readPart(
  handle: FileHandle,
  buffer: Buffer,
  { offset, length, from, path }: { offset: number; length: number; from: number; path: string },
): Promise<{ bytesRead: number }> {
  let bytesRead = 0;
  while (bytesRead < length) {
    try {
      const once = await handle.read(buffer, offset + bytesRead, length - bytesRead, from + bytesRead);
      if (once.bytesRead === 0) break;
      bytesRead += once.bytesRead;
    } catch (error) {
      throw new ArchiveError(`${path} cannot be read: ${(error as NodeJS.ErrnoException).code}`, { cause: error });
    }
  }
  return { bytesRead };
}

/** Reads what a stream gives. */
class StreamCursor implements Cursor {
  readonly #stream: Readable;
  readonly #chunks: AsyncIterator<Buffer>;
  readonly #limits: { readonly maxBytes: number; readonly signal: AbortSignal | undefined };
  #rest: Buffer = Buffer.alloc(0);
  position = 0;

  constructor(stream: Readable, limits: { maxBytes: number; signal: AbortSignal | undefined }) {
    this.#stream = stream;
    this.#limits = limits;
    this.#chunks = stream[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  }

  async read(length: number): Promise<Buffer> {
    const pieces: Buffer[] = [];
    let count = 0;
    while (count < length && (await this.#fill())) {
      const piece = this.#rest.subarray(0, length - count);
      pieces.push(piece);
      count += piece.length;
      this.#rest = this.#rest.subarray(piece.length);
    }
    this.position += count;
    return pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces);
  }

  async skipTo(position: number, within: string): Promise<void> {
    while (this.position < position) {
      if (!(await this.#fill())) throw cutShort(within);
      const count = Math.min(this.#rest.length, position - this.position);
      this.#rest = this.#rest.subarray(count);
      this.position += count;
    }
  }

  async #fill(): Promise<boolean> {
    const { maxBytes, signal } = this.#limits;
    while (this.#rest.length === 0) {
      signal?.throwIfAborted();
      if (this.position > maxBytes) throw new ArchiveError(`what is compressed in it has more than ${maxBytes} bytes`);
      let next: IteratorResult<Buffer>;
      try {
        next = await this.#chunks.next();
      } catch (error) {
        if (error instanceof ArchiveError) throw error;
        throw new ArchiveError('what is compressed in it is damaged or cut short', { cause: error });
      }
      if (next.done === true) return false;
      this.#rest = next.value;
    }
    return true;
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#stream.destroy();
    return Promise.resolve();
  }
}

function decompressed(parts: readonly Part[], compression: 'gzip' | 'zstd'): Readable {
  async function* bytes(): AsyncGenerator<Buffer> {
    for (const { path } of parts) yield* createReadStream(path, { highWaterMark: chunkBytes });
  }
  const unpack = compression === 'gzip' ? createGunzip() : createZstdDecompress();
  // Its errors come out of the stream that is read.
  return pipeline(Readable.from(bytes(), { objectMode: false }), unpack, () => undefined);
}

function cutShort(within: string): ArchiveError {
  return new ArchiveError(`it is cut short within ${basename(within)}`);
}
