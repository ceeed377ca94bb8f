import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import type { Cursor } from '../../src/archive/cursor.ts';
import { openTar } from '../../src/archive/tar-archive.ts';
import { tarEntries } from '../../src/archive/tar-reader.ts';
import { type RawEntry, rawEntry, rawTar } from '../support/tar-entries.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

const file = (name: string, content = 'x'): RawEntry => ({ name, content });

/** The same block again and again, and then zeros. */
function repeated(block: Buffer, times: number): Cursor {
  let left = times;
  return {
    position: 0,
    read: () => Promise.resolve((left -= 1) < 0 ? Buffer.alloc(512) : block),
    skipTo: () => Promise.resolve(),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

async function count(entry: RawEntry, times: number): Promise<number> {
  let found = 0;
  for await (const _ of tarEntries(repeated(rawEntry(entry), times))) found += 1;
  return found;
}

test('an archive may have 200,000 entries', async () => {
  expect(await count(file('a', ''), 200_000)).toBe(200_000);
  await expect(count(file('a', ''), 200_001)).rejects.toThrow('it has more than 200000 entries');
});

test('an archive may have names and targets of 16 Mi characters', async () => {
  const long: RawEntry = { name: 'n'.repeat(56), type: '2', link: 't'.repeat(72) };
  expect(await count(long, 2 ** 17)).toBe(2 ** 17);
  await expect(count(long, 2 ** 17 + 1)).rejects.toThrow('the names of its entries are too long');
});

test('of a compressed archive, files up to 64 KiB are kept, up to 8 MiB in all', async () => {
  await using folder = await temporaryDirectory('tar');
  const path = join(folder.path, 'a.tar');
  // Each costs 300 bytes more than its content; 129 of these are more than 8 MiB.
  const some = Array.from({ length: 129 }, (_, at) => file(`f${at}`, 'x'.repeat(65_000)));
  const entries = [
    ...some,
    file('small', 'y'),
    file('fits', 'x'.repeat(64 * 1024)),
    file('above', 'x'.repeat(64 * 1024 + 1)),
  ];
  await writeFile(path, gzipSync(rawTar(...entries), { level: 1 }));
  await using archive = await openTar([path]);
  const near = [...archive.files.keys()].filter((name) => archive.isNear(name));
  expect(near).toEqual([...some.slice(0, 128).map(({ name }) => name), 'small']);
  await writeFile(path, gzipSync(rawTar(...entries.slice(-2)), { level: 1 }));
  await using other = await openTar([path]);
  expect(['fits', 'above'].map((name) => other.isNear(name))).toEqual([true, false]);
});
