<<<<<<< HEAD
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { layoutOf, prepareLayout } from '../../src/store/layout.ts';
import { openPartial } from '../../src/store/partial-file.ts';
import { temporaryFolder } from '../support/site.ts';

test('pieces written in any order, some at the same time, hash to the digest of the whole', async () => {
  await using folder = await temporaryFolder();
  const layout = layoutOf(folder.path);
  await prepareLayout(layout);
  await fc.assert(
    fc.asyncProperty(
      fc
        .array(fc.integer({ min: 1, max: 5000 }), { minLength: 1, maxLength: 12 })
        .chain((lengths) =>
          fc.tuple(fc.constant(lengths), fc.shuffledSubarray([...lengths.keys()], { minLength: lengths.length })),
        ),
      fc.integer({ min: 1, max: 4 }),
      async ([lengths, order], atATime) => {
        const pieces = lengths.map((length) => randomBytes(length));
        const whole = Buffer.concat(pieces);
        const digest = digestOf(whole);
        await using partial = await openPartial(layout, digest);
        const starts = lengths.map((_, index) => lengths.slice(0, index).reduce((sum, length) => sum + length, 0));
        const left = [...order];
        while (left.length > 0) {
          await Promise.all(left.splice(0, atATime).map((index) => partial.write(starts[index]!, [pieces[index]!])));
        }
        expect(partial.written).toBe(whole.length);
        expect(partial.digest()).toBe(digest);
        await partial.commit();
        expect(await readFile(layout.blob(digest))).toEqual(whole);
        expect(existsSync(`${layout.partial(digest)}.prefix`)).toBe(false);
      },
    ),
    { numRuns: 60 },
  );
});

test('what was written ahead is read where it lies, and is forgotten with its holes at the next opening', async () => {
  await using folder = await temporaryFolder();
  const layout = layoutOf(folder.path);
  await prepareLayout(layout);
  const whole = randomBytes(10_000);
  const digest = digestOf(whole);
  {
    await using partial = await openPartial(layout, digest);
    await partial.append([whole.subarray(0, 1000)]);
    await partial.write(5000, [whole.subarray(5000, 7000)]);
    expect(partial.written).toBe(1000);
    expect(partial.availableFrom(5500)).toBe(7000);
    expect(partial.availableFrom(1000)).toBe(1000);
    expect(partial.nextAvailable(1000)).toBe(5000);
    const buffer = Buffer.alloc(3000);
    expect(await partial.read(buffer, 5500, 3000)).toBe(1500);
    expect(buffer.subarray(0, 1500)).toEqual(whole.subarray(5500, 7000));
  }
  await using again = await openPartial(layout, digest);
  expect(again.written).toBe(1000);
  await again.append([whole.subarray(1000)]);
  expect(again.digest()).toBe(digest);
});

test('bytes that may have been read are never written over', async () => {
  await using folder = await temporaryFolder();
  const layout = layoutOf(folder.path);
  await prepareLayout(layout);
  await using partial = await openPartial(layout, digestOf(Buffer.from('x')));
  await partial.append([Buffer.alloc(100)]);
  await partial.write(500, [Buffer.alloc(100)]);
  await expect(partial.write(50, [Buffer.alloc(10)])).rejects.toThrow('written twice');
  await expect(partial.write(550, [Buffer.alloc(10)])).rejects.toThrow('written twice');
  await expect(partial.write(450, [Buffer.alloc(51)])).rejects.toThrow('written twice');
  await partial.write(450, [Buffer.alloc(50)]);
=======
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { DiskStore } from '../../src/store/disk-store.ts';
import { layoutOf, prepareLayout } from '../../src/store/layout.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

const wanted = digestOf(Buffer.from('the name of the file, whatever is written to it'));

type Step =
  | { readonly do: 'append'; readonly chunks: readonly Uint8Array[] }
  | { readonly do: 'read'; readonly at: number; readonly length: number }
  | { readonly do: 'reopen' | 'restart' | 'digest' };

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    fc.record({
      do: fc.constant('append' as const),
      chunks: fc.array(fc.uint8Array({ minLength: 1, maxLength: 3000 }), { minLength: 1, maxLength: 4 }),
    }),
    fc.record({
      do: fc.constant('read' as const),
      at: fc.double({ min: 0, max: 1, noNaN: true }),
      length: fc.integer({ min: 1, max: 5000 }),
    }),
    fc.record({ do: fc.constantFrom('reopen' as const, 'restart' as const, 'digest' as const) }),
  ),
  { maxLength: 12 },
);

describe('a partial file', () => {
  test('behaves as bytes in memory do, also when it is closed and found again', async () => {
    await using folder = await temporaryDirectory();
    const layout = layoutOf(folder.path);
    await prepareLayout(layout);
    const store = new DiskStore({ layout, memoryBytes: 1024 });
    const property = fc.asyncProperty(steps, async (plan) => {
      let model = Buffer.alloc(0);
      let file = await store.ingest(wanted);
      for (const step of plan) {
        if (step.do === 'append') {
          await file.append(step.chunks.map((chunk) => Buffer.from(chunk)));
          model = Buffer.concat([model, ...step.chunks]);
        } else if (step.do === 'restart') {
          await file.restart();
          model = Buffer.alloc(0);
        } else if (step.do === 'reopen') {
          await file[Symbol.asyncDispose]();
          file = await store.ingest(wanted);
        } else if (step.do === 'read' && model.length > 0) {
          const position = Math.min(model.length - 1, Math.floor(step.at * model.length));
          const buffer = Buffer.alloc(step.length);
          const count = await file.read(buffer, position, step.length);
          expect(count).toBeGreaterThan(0);
          expect(buffer.subarray(0, count).equals(model.subarray(position, position + count))).toBe(true);
        }
        expect(file.written).toBe(model.length);
        expect(file.digest()).toBe(digestOf(model));
        expect(file.hashSoFar().digest('hex')).toBe(createHash('sha256').update(model).digest('hex'));
      }
      await file.commit();
      await file[Symbol.asyncDispose]();
      expect((await readFile(layout.blob(wanted))).equals(model)).toBe(true);
      expect(await readdir(layout.ingest)).toEqual([]);
      expect((await store.read(wanted))?.equals(model)).toBe(true);
      await store.remove(wanted);
      expect(await store.open(wanted)).toBeUndefined();
    });
    await fc.assert(property, { numRuns: 60 });
  });

  test('that is discarded is gone, one that is only closed stays', async () => {
    await using folder = await temporaryDirectory();
    const layout = layoutOf(folder.path);
    await prepareLayout(layout);
    const store = new DiskStore({ layout, memoryBytes: 1024 });
    {
      await using file = await store.ingest(wanted);
      await file.append([Buffer.from('kept')]);
    }
    expect(await readdir(layout.ingest)).toEqual([wanted.replace(':', '-')]);
    {
      await using file = await store.ingest(wanted);
      expect(file.written).toBe(4);
      await file.discard();
    }
    expect(await readdir(layout.ingest)).toEqual([]);
    expect(await readdir(layout.blobs, { recursive: true })).toEqual(['sha256', 'sha512']);
  });

  test('of a folder that is gone is a DiskFault with the code of the system', async () => {
    await using folder = await temporaryDirectory();
    const store = new DiskStore({ layout: layoutOf(folder.path), memoryBytes: 1024 });
    await expect(store.ingest(wanted)).rejects.toMatchObject({ name: 'DiskFault', code: 'ENOENT' });
    await expect(store.put(wanted, Buffer.from('x'))).rejects.toMatchObject({ name: 'DiskFault' });
  });
});

test('an open blob stays readable when it is removed meanwhile', async () => {
  await using folder = await temporaryDirectory();
  const layout = layoutOf(folder.path);
  await prepareLayout(layout);
  const store = new DiskStore({ layout, memoryBytes: 1024 });
  const content = Buffer.alloc(200_000, 7);
  const digest = digestOf(content);
  await store.put(digest, content);
  await using blob = await store.open(digest);
  await store.remove(digest);
  const buffer = Buffer.alloc(1000);
  expect(await blob?.read(buffer, 199_500)).toBe(500);
  expect(buffer.subarray(0, 500).equals(content.subarray(199_500))).toBe(true);
>>>>>>> main
});
