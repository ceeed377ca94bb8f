import { describe, expect, test, vi } from 'vitest';
import type { FillsOptions } from '../../src/mirror/fill/fills.ts';
import { type Placed, RateWatch } from '../../src/mirror/fill/rate-watch.ts';
import { DirectRoute, type Source } from '../../src/mirror/fill/sources.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { RegistryError } from '../../src/oci/error.ts';
import { leastBytesPerSecond, leastRateWindowMs } from '../../src/waiting/least-rate.ts';
import { Blob, fillsWith, leave, repository, signal } from './scripted-fills.ts';

describe('a blob that several clients want', () => {
  test('is fetched once per upstream, and its progress is that of the fill', async () => {
    const { fills, join, begun, stored } = fillsWith({ limits: { maxFills: 4, maxBlobBytes: 10_000_000 } });
    await using _ = fills;
    const blob = new Blob('one');
    const one = join(blob);
    const two = join(blob, { expectedSize: 100_000 });
    const other = join(blob, { upstream: 'quay.io' });
    expect([one.begun, two.begun, two.fill === one.fill, other.begun]).toEqual([true, false, true, true]);
    expect([fills.count, begun]).toEqual([2, [blob.digest, blob.digest]]);
    expect([...one.fill.expectedSizes]).toEqual([100_000]);
    await one.reader.heading(signal);
    await expect
      .poll(() => fills.progress()[0])
      .toEqual({
        digest: blob.digest,
        writtenBytes: 50_000,
        sizeBytes: 100_000,
        sources: ['docker.io one'],
        readers: 2,
      });
    const { digest } = blob;
    expect([fills.has(digest), fills.has(digest, 'quay.io'), fills.has(digest, 'ghcr.io')]).toEqual([
      true,
      true,
      false,
    ]);
    expect(fills.has(digestOf(Buffer.from('other')))).toBe(false);
    blob.finish();
    await expect.poll(() => fills.count).toBe(0);
    expect(stored).toHaveLength(2);
    for (const shownBy of ['docker.io', 'quay.io']) {
      expect(stored).toContainEqual([digest, expect.objectContaining({ shownBy })]);
    }
    expect(fills.has(digest)).toBe(false);
    await leave(one, two, other);
  });

  test('is fetched again after it has failed, by the sources of the next client', async () => {
    const { fills, join } = fillsWith();
    await using _ = fills;
    const blob = new Blob('failing').finish();
    const denied = new RegistryError('denied', 'not for you');
    const failing = blob.source('docker.io', { open: () => Promise.reject(denied) });
    const first = join(blob, { source: failing });
    await expect(first.reader.heading(signal)).rejects.toBe(denied);
    expect(first.fill.state).toBe('failed');
    const second = join(blob);
    expect([second.begun, second.fill === first.fill]).toEqual([true, false]);
    expect((await second.reader.heading(signal)).size).toBe(100_000);
    await leave(first, second);
  });
});

describe('a fill that waits for its place', () => {
  test('has none before another one has ended, and begins then', async () => {
    const { fills, join } = fillsWith();
    await using _ = fills;
    const [a, b] = [new Blob('a'), new Blob('b')];
    const first = join(a);
    await a.opened.promise;
    const second = join(b);
    const late = join(b);
    await expect.poll(() => fills.isQueued(second.fill)).toBe(true);
    expect(fills.isQueued(first.fill)).toBe(false);
    expect(late.fill).toBe(second.fill);
    a.finish();
    await b.opened.promise;
    expect(fills.isQueued(second.fill)).toBe(false);
    b.finish();
    await expect.poll(() => fills.count).toBe(0);
    expect(fills.isQueued(second.fill)).toBe(false);
    await leave(first, second, late);
  });

  test('begins anyway when its client can wait no longer', async () => {
    const { fills, join } = fillsWith();
    await using _ = fills;
    const [a, b] = [new Blob('a'), new Blob('b').finish()];
    const first = join(a);
    await a.opened.promise;
    const second = join(b);
    await expect.poll(() => fills.isQueued(second.fill)).toBe(true);
    fills.startAnyway(second.fill);
    expect((await second.reader.heading(signal)).size).toBe(100_000);
    // One that does not wait, or is over, is not begun twice.
    fills.startAnyway(first.fill);
    await expect.poll(() => fills.count).toBe(1);
    fills.startAnyway(second.fill);
    expect([a.cuts, fills.count]).toEqual([0, 1]);
    a.finish();
    await leave(first, second);
  });

  test('takes that of one without readers, which is begun again by the next request', async () => {
    const { fills, join, store } = fillsWith();
    await using _ = fills;
    const [a, b] = [new Blob('a'), new Blob('b').finish()];
    const first = join(a);
    await first.reader.heading(signal);
    await leave(first);
    // No one waits for its place.
    expect([a.cuts, fills.has(a.digest)]).toEqual([0, true]);
    const second = join(b);
    expect((await second.reader.heading(signal)).size).toBe(100_000);
    await expect.poll(() => a.cuts).toBe(1);
    const again = join(a.finish());
    expect(again.begun).toBe(true);
    await expect.poll(async () => (await store.read(a.digest))?.equals(a.bytes)).toBe(true);
    await leave(second, again);
  });

  test('and whose readers have left is forgotten', async () => {
    const { fills, join } = fillsWith();
    await using _ = fills;
    const [a, b] = [new Blob('a'), new Blob('b')];
    const first = join(a);
    await a.opened.promise;
    const second = join(b);
    await expect.poll(() => fills.isQueued(second.fill)).toBe(true);
    await leave(second);
    expect([fills.has(b.digest), a.cuts]).toEqual([false, 0]);
    a.finish();
    await expect.poll(() => fills.count).toBe(0);
    await leave(first);
  });
});

describe('a blob that is brought', () => {
  test('is in the store, and its progress was told', async () => {
    const { fills, store } = fillsWith();
    await using _ = fills;
    const blob = new Blob('brought');
    const told: [number, number | undefined][] = [];
    const joiner = { repository, sources: [blob.source()], expectedSize: 100_000 };
    const onProgress = (...of: [number, number | undefined]): void => {
      told.push(of);
      if (of[0] === 50_000) blob.finish();
    };
    await fills.bring(blob.digest, joiner, { signal, onProgress });
    expect((await store.read(blob.digest))?.equals(blob.bytes)).toBe(true);
    expect(told).toContainEqual([50_000, 100_000]);
    expect(fills.count).toBe(0);
  });

  test('and cannot be had has the error of its sources; or the reason of the signal', async () => {
    const { fills } = fillsWith();
    await using _ = fills;
    const blob = new Blob('absent');
    const denied = new RegistryError('denied', 'not for you');
    const failing = blob.source('docker.io', { open: () => Promise.reject(denied) });
    const bring = (source: Source, within: AbortSignal): Promise<void> =>
      fills.bring(blob.digest, { repository, sources: [source], expectedSize: undefined }, { signal: within });
    await expect(bring(failing, signal)).rejects.toBe(denied);
    const abort = new AbortController();
    const bringing = bring(blob.source(), abort.signal);
    await blob.opened.promise;
    const reason = new Error('given up');
    abort.abort(reason);
    await expect(bringing).rejects.toBe(reason);
  });

  test('and proves to be another one has the error of that, although it has begun to come', async () => {
    const { fills, stored } = fillsWith();
    await using _ = fills;
    const other = new Blob('other').finish();
    const joiner = { repository, sources: [other.source()], expectedSize: undefined };
    const bringing = fills.bring(new Blob('wanted').digest, joiner, { signal });
    await expect(bringing).rejects.toMatchObject({ reason: 'wrong-bytes' });
    expect(stored).toEqual([]);
  });

  test('that is kept elsewhere says so', async () => {
    class Elsewhere extends DirectRoute {
      override readonly isKept = false as unknown as true;
      override readonly isServing = true as unknown as false;
    }
    const route: FillsOptions['route'] = (_, sources) => new Elsewhere(sources);
    const { fills, stored } = fillsWith({ route });
    await using _ = fills;
    const blob = new Blob('elsewhere');
    const joiner = { repository, sources: [blob.source()], expectedSize: undefined };
    const bringing = fills.bring(blob.digest, joiner, { signal });
    await blob.opened.promise;
    expect(fills.following(blob.digest, 'docker.io')?.digest).toBe(blob.digest);
    expect(fills.following(blob.digest, 'quay.io')).toBeUndefined();
    blob.finish();
    await expect(bringing).rejects.toMatchObject({ reason: 'kept-elsewhere' });
    expect([stored, fills.following(blob.digest, 'docker.io')]).toEqual([[], undefined]);
    // Not even where others could: its sources are free.
    const local = new Blob('local').finish();
    await fills.bring(local.digest, { ...joiner, sources: [local.source()], isLocal: true }, { signal });
    expect(stored.map(([digest]) => digest)).toEqual([local.digest]);
  });
});

describe('a fill with a place', () => {
  const placed = (group: string, place: Placed['place'] = 'taken') =>
    ({ group, place, fill: { receivedBytes: 0 } }) as Omit<Placed, 'fill'> & { fill: { receivedBytes: number } };

  test('gives it up when it comes forward more slowly than the least rate', () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] });
    try {
      using rates = new RateWatch();
      const slow: string[] = [];
      const fills = { fast: placed('a'), slow: placed('a'), waiting: placed('a', 'none'), halting: placed('b') };
      const watches = Object.entries(fills).map(([name, download]) =>
        rates.watch(download as unknown as Placed, () => slow.push(name)),
      );
      const least = (leastBytesPerSecond * leastRateWindowMs) / 1000;
      fills.fast.fill.receivedBytes = least;
      fills.slow.fill.receivedBytes = least - 1;
      fills.halting.fill.receivedBytes = least;
      vi.advanceTimersByTime(leastRateWindowMs - 1);
      expect(slow).toEqual([]);
      vi.advanceTimersByTime(1);
      expect(slow).toEqual(['slow']);
      // What has come counts once.
      fills.fast.fill.receivedBytes += least;
      fills.slow.fill.receivedBytes += least;
      vi.advanceTimersByTime(leastRateWindowMs);
      expect(slow).toEqual(['slow', 'halting']);
      for (const watch of watches) watch[Symbol.dispose]();
      expect(vi.getTimerCount()).toBe(0);
    } finally {
      vi.useRealTimers();
    }
  });

  test('keeps it where too many of its group have none', () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] });
    try {
      using rates = new RateWatch();
      const slow: string[] = [];
      for (let index = 0; index < 256; index += 1)
        rates.watch(placed('a', 'slow') as unknown as Placed, () => undefined);
      rates.watch(placed('a') as unknown as Placed, () => slow.push('a'));
      rates.watch(placed('b') as unknown as Placed, () => slow.push('b'));
      vi.advanceTimersByTime(leastRateWindowMs);
      expect(slow).toEqual(['b']);
    } finally {
      vi.useRealTimers();
    }
  });
});
