import { type FileHandle, open } from 'node:fs/promises';
import { basename } from 'node:path';
import { pipeline, Readable } from 'node:stream';
import { ArchiveError } from './archive-error.ts';
import { type Compression, compressionOf, decompressor, maxUnpackedBytes, unpackFailure } from './compression.ts';
import type { Cursor } from './cursor.ts';
import type { SpooledFile } from './spooled-file.ts';

const chunkBytes = 1024 * 1024;
interface Part {
  readonly path: string;
  readonly handle: FileHandle;
  readonly size: number;
}

/** The bytes of an archive in one file, or in consecutive parts. */
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
    const file = await ArchiveFile.#of(parts, signal);
    owned.move();
    return file;
  }

  /** Takes over a file that has no name. @throws ArchiveError */
  static async spooled({ handle, size }: SpooledFile, signal?: AbortSignal): Promise<ArchiveFile> {
    await using owned = new AsyncDisposableStack();
    const file = await ArchiveFile.#of([{ path: 'standard input', handle: owned.use(handle), size }], signal);
    owned.move();
    return file;
  }

  static async #of(parts: readonly Part[], signal: AbortSignal | undefined): Promise<ArchiveFile> {
    const magic = Buffer.alloc(6);
    await parts[0]?.handle.read(magic, 0, magic.length, 0);
    return new ArchiveFile(parts, compressionOf(magic), signal);
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
   * Goes through it from a position on; a compressed one from its beginning only. What it does throws ArchiveError, and
   * the signal's reason.
   */
  cursor(position = 0): Cursor {
    if (this.#compression === 'none') return new FileCursor(this.#parts, { position, signal: this.#signal });
    if (position !== 0) throw new Error('a compressed archive is read from its beginning');
    const limits = { maxBytes: maxUnpackedBytes(this.size), signal: this.#signal };
    return new StreamCursor(decompressed(this.#parts, this.#compression), limits);
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
        throw new ArchiveError(`what is compressed in it ${unpackFailure(error)}`, { cause: error });
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
    for (const { handle, size } of parts) {
      if (size === 0) continue;
      yield* handle.createReadStream({ start: 0, end: size - 1, autoClose: false, highWaterMark: chunkBytes });
    }
  }
  // Its errors come out of the stream that is read.
  return pipeline(
    Readable.from(bytes(), { objectMode: false }),
    decompressor(compression, { freeBytes: process.availableMemory() }),
    () => undefined,
  );
}

function cutShort(within: string): ArchiveError {
  return new ArchiveError(`it is cut short within ${basename(within)}`);
}
