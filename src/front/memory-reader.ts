import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import type { SystemCalls } from './system-calls.ts';

export interface MemoryReaderOptions {
  readonly calls: Pick<SystemCalls, 'isInMemory'>;
  /** As of `open`: a file that is something else, such as a pipe, must not be waited for. */
  readonly flags: number;
  /** Larger files are not read. */
  readonly maxBytes: number;
}

/** Reads small files whose pages the system has in memory, at once. */
export class MemoryReader {
  readonly #options: MemoryReaderOptions;

  constructor(options: MemoryReaderOptions) {
    this.#options = options;
  }

  /** The content of a file; `undefined` where it is not there, too large, or would have to be read from the disk. */
  read(path: string): Buffer | undefined {
    const { calls, flags, maxBytes } = this.#options;
    let fd: number | undefined;
    try {
      fd = openSync(path, flags);
      const stats = fstatSync(fd);
      const { size } = stats;
      if (!stats.isFile() || size > maxBytes) return undefined;
      if (size > 0 && !calls.isInMemory(fd, { position: 0, length: size })) return undefined;
      const bytes = Buffer.allocUnsafe(size);
      return readSync(fd, bytes, 0, size, 0) === size ? bytes : undefined;
    } catch {
      // The application reads the file from the disk, and finds out about a fault.
      return undefined;
    } finally {
      if (fd !== undefined) closeSync(fd);
    }
  }
}
