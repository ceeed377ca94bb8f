import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { DiskStore } from '../../src/store/files/disk-store.ts';
import { layoutOf, prepareLayout } from '../../src/store/files/layout.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

// The same cases each time.
fc.configureGlobal({ seed: 1 });

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
      // It was committed without being verified: what is not the blob is not given.
      expect(await store.read(wanted)).toBeUndefined();
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

  test('of a cache directory that is gone is a DiskFault with the code of the system', async () => {
    await using folder = await temporaryDirectory();
    const store = new DiskStore({ layout: layoutOf(join(folder.path, 'gone')), memoryBytes: 1024 });
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
});
