import { createHash, randomBytes } from 'node:crypto';

/** A blob that is made of one random megabyte again and again, with its own beginning: made while it is read. */
export interface Content {
  readonly size: number;
  readonly digest: string;
  chunks(chunkBytes: number): Generator<Buffer, void, undefined>;
}

/** Makes blobs that no server has seen before. */
export class ContentMaker {
  readonly #block = randomBytes(1024 * 1024);

  make(size: number): Content {
    const beginning = randomBytes(Math.min(64, size));
    const block = this.#block;
    function* chunks(chunkBytes: number): Generator<Buffer, void, undefined> {
      yield beginning;
      for (let offset = beginning.length; offset < size; ) {
        const inBlock = offset % block.length;
        const end = Math.min(inBlock + chunkBytes, block.length, inBlock + size - offset);
        yield block.subarray(inBlock, end);
        offset += end - inBlock;
      }
    }
    const hash = createHash('sha256');
    for (const chunk of chunks(block.length)) hash.update(chunk);
    return { size, digest: `sha256:${hash.digest('hex')}`, chunks };
  }
}
