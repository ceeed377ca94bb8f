import { buffer } from 'node:stream/consumers';
import { constants, zstdCompressSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { decompressor, unpackFailure } from '../../src/archive/compression.ts';

const GiB = 2 ** 30;

test('a zstd window may take an eighth of the free memory, and 128 MiB in any case', async () => {
  const unpacked = Buffer.alloc(2 ** 27 + 2 ** 20, 'content');
  const packed = (windowLog: number): Buffer =>
    zstdCompressSync(unpacked, {
      params: { [constants.ZSTD_c_windowLog]: windowLog, [constants.ZSTD_c_contentSizeFlag]: 0 },
    });
  const read = async (windowLog: number, freeBytes?: number): Promise<string> => {
    const stream = decompressor('zstd', freeBytes === undefined ? {} : { freeBytes });
    stream.end(packed(windowLog));
    return await buffer(stream).then((bytes) => String(bytes.equals(unpacked)), unpackFailure);
  };
  expect(await read(27)).toBe('true');
  expect(await read(27, 0.1 * GiB)).toBe('true');
  expect(await read(28)).toContain('window that is too large');
  expect(await read(28, 1.9 * GiB)).toContain('window that is too large');
  expect(await read(28, 2 * GiB)).toBe('true');
});
