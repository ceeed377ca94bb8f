import { createHash } from 'node:crypto';
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { RunningHash, SyncError, UploadWriter } from '../../src/hosted/upload-writer.ts';
import { Slots } from '../../src/waiting/slots.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

const pieceBytes = 1024 * 1024;
const never = new AbortController().signal;

/** Pieces with memory of their own, as Node reads them. */
async function* pieces(count: number): AsyncGenerator<readonly Buffer[]> {
  for (let at = 0; at < count; at += 1) yield [Buffer.alloc(pieceBytes, at), Buffer.alloc(1, at)];
}

test('what is written is what was hashed, and its memory is given back', async () => {
  await using directory = await temporaryDirectory('upload-writer');
  const path = join(directory.path, 'data');
  await using handle = await open(path, 'wx+');
  const hash = new RunningHash();
  const writer = new UploadWriter(handle, { at: 0, syncs: new Slots(1), hash });
  const given = await Array.fromAsync(pieces(3));
  async function* body(): AsyncGenerator<readonly Buffer[]> {
    yield* given;
  }
  const totals: number[] = [];
  await writer.write(body(), { signal: never, allow: (total) => totals.push(total) });
  const written = await readFile(path);
  expect(written.length).toBe(3 * (pieceBytes + 1));
  expect(totals).toEqual([1, 2, 3].map((count) => count * (pieceBytes + 1)));
  expect(hash.copy().digest('hex')).toBe(createHash('sha256').update(written).digest('hex'));
  expect(given.flat().filter(({ length }) => length === pieceBytes)).toEqual([]);
});

test('bytes that the disk has lost fail the chunk, though a later sync of them would succeed', async () => {
  await using directory = await temporaryDirectory('upload-writer');
  await using handle = await open(join(directory.path, 'data'), 'wx+');
  let syncs = 0;
  const failing = new Proxy(handle, {
    get(target, name) {
      if (name === 'datasync') {
        return () => {
          syncs += 1;
          return Promise.reject(new Error('EIO'));
        };
      }
      const value = Reflect.get(target, name) as unknown;
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
  const writer = new UploadWriter(failing, { at: 0, syncs: new Slots(1), hash: undefined });
  await expect(writer.write(pieces(200), { signal: never, allow: () => undefined })).rejects.toThrow(SyncError);
  expect(syncs).toBe(1);
  expect(writer.position).toBeLessThan(200 * pieceBytes);
});

test('an upload that is ended does not wait for its client', async () => {
  await using directory = await temporaryDirectory('upload-writer');
  await using handle = await open(join(directory.path, 'data'), 'wx+');
  const writer = new UploadWriter(handle, { at: 0, syncs: new Slots(1), hash: undefined });
  const ended = new AbortController();
  let isLeft = false;
  const silent: AsyncIterable<readonly Buffer[]> = {
    [Symbol.asyncIterator]: () => ({
      next: () => new Promise(() => undefined),
      return: () => {
        isLeft = true;
        return Promise.resolve({ done: true, value: undefined });
      },
    }),
  };
  const writing = writer.write(silent, { signal: ended.signal, allow: () => undefined });
  ended.abort(new Error('cancelled'));
  await expect(writing).rejects.toThrow('cancelled');
  expect(isLeft).toBe(true);
});
