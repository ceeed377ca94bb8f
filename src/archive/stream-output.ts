import { createHash } from 'node:crypto';
import { ArchiveError } from './archive-error.ts';
import type { ArchiveSink, WrittenFile } from './archive-output.ts';

/** Accepts bytes, and reports when they have been taken or cannot be. */
export interface ByteStream {
  write(chunk: Uint8Array, done: (error?: Error | null) => void): unknown;
}

/** An archive that is written to another program. It is complete when that has read to the end; it has no list. */
export class StreamOutput implements ArchiveSink {
  readonly #stream: ByteStream;
  readonly #hash = createHash('sha256');
  #size = 0;

  constructor(stream: ByteStream) {
    this.#stream = stream;
  }

  /** Appends bytes at the reader's pace; they may be changed afterwards. @throws ArchiveError if nothing reads any more */
  async write(chunk: Buffer): Promise<void> {
    if (chunk.length === 0) return;
    this.#hash.update(chunk);
    this.#size += chunk.length;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#stream.write(chunk, (error) => (error ? reject(error) : resolve()));
    try {
      await promise;
    } catch (error) {
      const { code = 'unknown' } = error as NodeJS.ErrnoException;
      throw new ArchiveError(`standard output cannot be written: ${code}`, { cause: error });
    }
  }

  async finish(): Promise<readonly WrittenFile[]> {
    return [{ name: '-', sha256: this.#hash.digest('hex'), size: this.#size }];
  }
}
