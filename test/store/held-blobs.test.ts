import { randomBytes } from 'node:crypto';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { MemoryBudget } from '../../src/memory/memory-budget.ts';
import { Slabs } from '../../src/memory/slabs.ts';
import { digestOf } from '../../src/oci/digest.ts';
import type { PartialBlob } from '../../src/store/files/blob-store.ts';
import { DiskStore } from '../../src/store/files/disk-store.ts';
import { layoutOf, prepareLayout } from '../../src/store/files/layout.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

async function openStore(memoryBytes = 64 * 1024 * 1024) {
  const folder = await temporaryDirectory('held');
  const layout = layoutOf(folder.path);
  await prepareLayout(layout);
  const budget = new MemoryBudget({ memoryBytes });
  const memory = new Slabs();
  memory.countIn(budget);
  return {
    layout,
    budget,
    memory,
    store: new DiskStore({ layout, memoryBytes: 1024 * 1024 }),
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}

/** Appends content as a fill does: by chunks that lie in slabs, which are let go afterwards. */
async function appendFrom(memory: Slabs, partial: PartialBlob, content: Buffer): Promise<void> {
  for (let position = 0; position < content.length; ) {
    const slab = memory.take(content.length - position);
    position += slab.fill(content.subarray(position));
    using loan = slab.lend(0, slab.length);
    slab.release();
    await partial.append([loan.bytes]);
  }
}

async function contentOf(partial: PartialBlob, length: number): Promise<Buffer> {
  const content = Buffer.alloc(length);
  for (let position = 0; position < length; ) {
    position += await partial.read(content.subarray(position), position, length - position);
  }
  return content;
}

test.each([70_000, 300_000, 600_000, 1024 * 1024])(
  'a blob of %i bytes has no file before it is right, and one that is whole afterwards',
  async (size) => {
    await using here = await openStore();
    const { store, layout, memory, budget } = here;
    const content = randomBytes(size);
    const digest = digestOf(content);
    {
      await using partial = await store.ingest(digest, { memory });
      await appendFrom(memory, partial, content);
      expect(await readdir(layout.ingest)).toEqual([]);
      expect(partial.digest()).toBe(digest);
      expect((await contentOf(partial, size)).equals(content)).toBe(true);
      const modifiedAtMs = await partial.commit();
      const { mtimeMs, mode } = await stat(layout.blob(digest));
      expect([mtimeMs, mode & 0o777]).toEqual([modifiedAtMs, 0o600]);
      // Who reads it still has it.
      expect((await contentOf(partial, size)).equals(content)).toBe(true);
    }
    expect((await readFile(layout.blob(digest))).equals(content)).toBe(true);
    expect(await readdir(layout.ingest)).toEqual([]);
    expect(budget.usedBytes).toBe(0);
    await store.sync();
  },
);

test('a blob that is copied has a file from the first byte past 64 KiB on, or once it is written out of order', async () => {
  await using here = await openStore();
  const { store, layout } = here;
  const content = randomBytes(64 * 1024 + 1);
  {
    await using partial = await store.ingest(digestOf(content));
    await partial.append([content.subarray(0, 10), content.subarray(10, 64 * 1024)]);
    expect([partial.written, await readdir(layout.ingest)]).toEqual([64 * 1024, []]);
    expect([partial.availableFrom(5), partial.availableFrom(70_000)]).toEqual([64 * 1024, 70_000]);
    expect(partial.nextAvailable(0)).toBeUndefined();
    await partial.append([content.subarray(64 * 1024)]);
    expect([partial.written, await readdir(layout.ingest)]).toEqual([content.length, [expect.any(String)]]);
    expect(partial.digest()).toBe(digestOf(content));
  }
  const other = randomBytes(1000);
  await using partial = await store.ingest(digestOf(other));
  await partial.append([other.subarray(0, 300)]);
  await partial.write(600, [other.subarray(600)]);
  expect([partial.written, partial.nextAvailable(300), partial.availableFrom(600)]).toEqual([300, 600, 1000]);
  await partial.append([other.subarray(300, 600)]);
  expect([partial.written, partial.digest()]).toEqual([1000, digestOf(other)]);
  expect(await contentOf(partial, 1000)).toEqual(other);
});

test('a blob that grows larger continues in a file, and its digest is right', async () => {
  await using here = await openStore();
  const { store, layout, memory, budget } = here;
  const content = randomBytes(1_500_000);
  const digest = digestOf(content);
  {
    await using partial = await store.ingest(digest, { memory });
    await appendFrom(memory, partial, content.subarray(0, 900_000));
    expect([partial.written, await readdir(layout.ingest)]).toEqual([900_000, []]);
    await appendFrom(memory, partial, content.subarray(900_000));
    expect([partial.written, budget.usedBytes]).toEqual([content.length, 0]);
    expect((await contentOf(partial, content.length)).equals(content)).toBe(true);
    expect(partial.digest()).toBe(digest);
    await partial.commit();
  }
  expect((await readFile(layout.blob(digest))).equals(content)).toBe(true);
});

test('what is held is written to a file when it is closed too early, and continued from there', async () => {
  await using here = await openStore();
  const { store, layout, memory, budget } = here;
  const content = randomBytes(500_000);
  const digest = digestOf(content);
  {
    await using partial = await store.ingest(digest, { memory });
    await appendFrom(memory, partial, content.subarray(0, 300_000));
  }
  expect((await readFile(layout.partial(digest))).equals(content.subarray(0, 300_000))).toBe(true);
  await using partial = await store.ingest(digest, { memory });
  expect(partial.written).toBe(300_000);
  await appendFrom(memory, partial, content.subarray(300_000));
  expect(partial.digest()).toBe(digest);
  expect(budget.usedBytes).toBe(0);
});

test('where memory is short, a blob of more than 64 KiB goes to a file as it comes', async () => {
  await using here = await openStore(1024 * 1024);
  const { store, layout, memory, budget } = here;
  budget.add(700_000);
  const content = randomBytes(200_000);
  const digest = digestOf(content);
  await using partial = await store.ingest(digest, { memory });
  await appendFrom(memory, partial, content);
  expect(await readdir(layout.ingest)).toHaveLength(1);
  expect(budget.usedBytes).toBe(700_000);
  expect(partial.digest()).toBe(digest);
});

test('wrong bytes that were held are forgotten by a restart', async () => {
  await using here = await openStore();
  const { store, layout, memory, budget } = here;
  const content = randomBytes(200_000);
  const digest = digestOf(content);
  await using partial = await store.ingest(digest, { memory });
  await appendFrom(memory, partial, randomBytes(200_000));
  expect(partial.digest()).not.toBe(digest);
  await partial.restart();
  expect([partial.written, budget.usedBytes]).toEqual([0, 0]);
  await appendFrom(memory, partial, content);
  expect(partial.digest()).toBe(digest);
  await partial.commit();
  expect((await readFile(join(layout.blob(digest)))).equals(content)).toBe(true);
});
