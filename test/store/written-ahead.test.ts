import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { layoutOf, prepareLayout } from '../../src/store/files/layout.ts';
import { openPartial } from '../../src/store/files/partial-file.ts';
import { temporaryFolder } from '../support/site.ts';

// The same cases each time.
fc.configureGlobal({ seed: 1 });

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
        await using partial = await openPartial({ layout, digest });
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
    await using partial = await openPartial({ layout, digest });
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
  await using again = await openPartial({ layout, digest });
  expect(again.written).toBe(1000);
  await again.append([whole.subarray(1000)]);
  expect(again.digest()).toBe(digest);
});

test('bytes that may have been read are never written over', async () => {
  await using folder = await temporaryFolder();
  const layout = layoutOf(folder.path);
  await prepareLayout(layout);
  await using partial = await openPartial({ layout, digest: digestOf(Buffer.from('x')) });
  await partial.append([Buffer.alloc(100)]);
  await partial.write(500, [Buffer.alloc(100)]);
  await expect(partial.write(50, [Buffer.alloc(10)])).rejects.toThrow('written twice');
  await expect(partial.write(550, [Buffer.alloc(10)])).rejects.toThrow('written twice');
  await expect(partial.write(450, [Buffer.alloc(51)])).rejects.toThrow('written twice');
  await partial.write(450, [Buffer.alloc(50)]);
});
