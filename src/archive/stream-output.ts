import { createHash } from 'node:crypto';
import { ArchiveError } from './archive-error.ts';
import type { ArchiveSink, WrittenFile } from './archive-output.ts';

/** Takes bytes, and says when they are gone or cannot be taken. */
export interface ByteStream {
  write(chunk: Uint8Array, done: (error?: Error | null) => void): unknown;
}

/** An archive on its way to another program. It is whole when that has read to the end, and no list is beside it. */
export class StreamOutput implements ArchiveSink {
  readonly #stream: ByteStream;
  readonly #hash = createHash('sha256');
  #size = 0;

  constructor(stream: ByteStream) {
    this.#stream = stream;
  }

  /** Adds bytes, at the reader's pace; they may be changed afterwards. @throws ArchiveError where nobody reads any more */
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
