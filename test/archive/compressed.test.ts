import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { readContent } from '../../src/archive/archived-content.ts';
import { openArchive } from '../../src/archive/parts.ts';
import { localImage, localIndex, tarArchive } from '../support/images.ts';
import { layoutOf, named } from '../support/layouts.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

const index = localIndex('compressed', ['amd64', 'arm64']);
const tar = tarArchive(layoutOf([{ manifest: index, annotations: named('docker.io/library/x:1') }]));
const blobs = 1 + index.manifests.length * 3;

async function written(bytes: Buffer) {
  const folder = await temporaryDirectory('compressed');
  const path = join(folder.path, 'a.tar');
  await writeFile(path, bytes);
  return { path, [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose]() };
}

/** How many blobs it has, manifests among them. */
async function countOf(path: string): Promise<number> {
  await using archive = await openArchive([path]);
  const content = await readContent(archive);
  return content.manifests.length + content.blobs.length;
}

describe('a compressed archive', () => {
  test.each([
    ['in one frame of zstd', zstdCompressSync(tar)],
    ['in several', Buffer.concat([tar.subarray(0, 1000), tar.subarray(1000)].map((part) => zstdCompressSync(part)))],
    // As pzstd writes it.
    [
      'behind a frame to be skipped',
      Buffer.concat([Buffer.from('502a4d180400000001020304', 'hex'), zstdCompressSync(tar)]),
    ],
    [
      'in several members of gzip',
      Buffer.concat([tar.subarray(0, 1000), tar.subarray(1000)].map((part) => gzipSync(part))),
    ],
  ])('%s is read', async (_, bytes) => {
    await using file = await written(bytes);
    expect(await countOf(file.path)).toBe(blobs);
  });

  test('is gone through once for all that is small in it', async () => {
    await using file = await written(gzipSync(tar));
    await using archive = await openArchive([file.path]);
    // There is nothing left to go through.
    await rm(file.path);
    const { manifests } = await readContent(archive);
    expect(manifests).toHaveLength(3);
  });

  test('that becomes far larger than anybody archives is not gone through to its end', async () => {
    const header = tarArchive({ junk: '' }).subarray(0, 512);
    const size = 20 * 64 * 1024 * 1024;
    header.write(`${size.toString(8).padStart(11, '0')}\0`, 124);
    header.write('        ', 148);
    header.write(
      `${header
        .reduce((sum, byte) => sum + byte, 0)
        .toString(8)
        .padStart(6, '0')}\0 `,
      148,
    );
    const zeros = zstdCompressSync(Buffer.alloc(64 * 1024 * 1024));
    const frames = Array.from({ length: 21 }, () => zeros);
    await using file = await written(Buffer.concat([zstdCompressSync(header), ...frames]));
    await expect(openArchive([file.path])).rejects.toThrow(/what is compressed in it has more than \d+ bytes/);
  });
});

test.each([
  ['plain', (bytes: Buffer) => bytes],
  ['compressed', (bytes: Buffer) => gzipSync(bytes)],
])('a %s archive without a reader is not read on', async (_, pack) => {
  const image = { manifest: localImage({ label: 'x' }), annotations: named('docker.io/library/x:1') };
  await using file = await written(pack(tarArchive({ ...layoutOf([image]), large: Buffer.alloc(100_000) })));
  const reason = new Error('interrupted');
  await expect(openArchive([file.path], AbortSignal.abort(reason))).rejects.toBe(reason);
  const abort = new AbortController();
  await using archive = await openArchive([file.path], abort.signal);
  abort.abort(reason);
  await expect(
    archive
      .visit(new Set(['large']))
      .next()
      .then(({ value }) => Array.fromAsync(value.body)),
  ).rejects.toBe(reason);
});
