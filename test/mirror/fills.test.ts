import { Readable } from 'node:stream';
import { describe, expect, test, vi } from 'vitest';
import { DiskFault } from '../../src/store/files/blob-store.ts';
import { leastRateWindowMs } from '../../src/waiting/least-rate.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { Blob, fillsWith, leave, repository, signal } from './scripted-fills.ts';

test('a joiner whose manifest gives another size does not share the fill of a source that says otherwise', async () => {
  const { fills, join } = fillsWith({ limits: { maxFills: 4, maxBlobBytes: 10_000_000 } });
  await using _ = fills;
  const blob = new Blob('blob').finish();
  const lying = blob.source('docker.io', {
    id: 'lying',
    open: async (_digest, { offset, signal: within }) => {
      const silent = new Readable({ read() {} });
      silent.push(Buffer.from(blob.bytes.subarray(0, 1000)));
      within.addEventListener('abort', () => silent.destroy());
      return await Promise.resolve({
        size: 200_000,
        start: offset,
        end: 200_000,
        contentType: 'a/b',
        body: silent as never,
      });
    },
  });
  const first = join(blob, { source: lying });
  await first.reader.heading(signal);
  const same = join(blob, { source: lying, expectedSize: 200_000 });
  const silent = join(blob, { source: lying });
  expect([same.begun, silent.begun]).toEqual([false, false]);
  const other = join(blob, { expectedSize: 100_000 });
  expect(other.begun).toBe(true);
  expect((await other.reader.heading(signal)).size).toBe(100_000);
  expect(join(blob, { expectedSize: 100_000 }).fill).toBe(other.fill);
  await leave(first, same, silent, other);
});

describe('a fill that is slow', () => {
  test('gives up its place once, and ends all the same', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] });
    try {
      const { fills, join, stored } = fillsWith();
      await using _ = fills;
      const [a, b, c] = [new Blob('a'), new Blob('b'), new Blob('c')];
      const slow = join(a);
      await slow.reader.heading(signal);
      const second = join(b);
      const third = join(c);
      while (!fills.isQueued(third.fill)) await new Promise(setImmediate);
      // The half of it that has come is enough for the first look.
      vi.advanceTimersByTime(leastRateWindowMs);
      expect(fills.isQueued(second.fill)).toBe(true);
      vi.advanceTimersByTime(leastRateWindowMs);
      await second.reader.heading(signal);
      expect([fills.isQueued(second.fill), fills.isQueued(third.fill)]).toEqual([false, true]);
      a.finish();
      while (stored.length === 0) await new Promise(setImmediate);
      expect(fills.isQueued(third.fill)).toBe(true);
      b.finish();
      await third.reader.heading(signal);
      c.finish();
      while (stored.length < 3) await new Promise(setImmediate);
      await leave(slow, second, third);
    } finally {
      vi.useRealTimers();
    }
  });
});

describe('a blob that is brought', () => {
  const brought = async (patch: object) => {
    const store = new MemoryStore();
    const ingest = store.ingest.bind(store);
    store.ingest = async (...of) => Object.assign(await ingest(...of), patch);
    const blob = new Blob('brought').finish();
    const on = fillsWith({ store });
    const joiner = { repository, sources: [blob.source()], expectedSize: undefined };
    const bringing = on.fills.bring(blob.digest, joiner, { signal });
    return { ...on, blob, bringing };
  };

  test('and for which there is no room says so', async () => {
    const { bringing, fills } = await brought({ commit: () => Promise.resolve(undefined) });
    await expect(bringing).rejects.toMatchObject({ reason: 'no-room' });
    await fills[Symbol.asyncDispose]();
  });

  test('and that the disk does not take says so', async () => {
    const fault = new DiskFault('write', new Error('full'));
    const { bringing, fills } = await brought({ commit: () => Promise.reject(fault) });
    await expect(bringing).rejects.toMatchObject({ reason: 'disk-fault' });
    await fills[Symbol.asyncDispose]();
  });

  test('is there once it is visible', async () => {
    const visible = Promise.withResolvers<number>();
    const { bringing, fills, stored } = await brought({ commit: () => visible.promise });
    await expect.poll(() => fills.progress()[0]?.writtenBytes).toBe(100_000);
    expect(stored).toEqual([]);
    visible.resolve(5);
    await bringing;
    expect(stored).toHaveLength(1);
    await fills[Symbol.asyncDispose]();
  });
});

describe('what other replicas may follow', () => {
  test('is none of a fill that only reads for this one', async () => {
    const { fills, join } = fillsWith();
    await using _ = fills;
    const blob = new Blob('own');
    const own = join(blob);
    await own.reader.heading(signal);
    expect(fills.following(blob.digest, 'docker.io')).toBeUndefined();
    await leave(own);
  });
});

test('all fills end when the mirror stops, also those that wait', async () => {
  const { fills, join, stored } = fillsWith();
  const [a, b] = [new Blob('a'), new Blob('b')];
  const both = [join(a), join(b)];
  await both[0]!.reader.heading(signal);
  await fills[Symbol.asyncDispose]();
  expect([fills.count, stored, b.cuts]).toEqual([0, [], 0]);
  expect(both.map(({ fill }) => fill.state)).toEqual(['failed', 'failed']);
  await leave(...both);
});
