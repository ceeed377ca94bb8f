import { once } from 'node:events';
import { Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { Slabs } from '../../src/memory/slabs.ts';
import { Fill } from '../../src/mirror/fill/fill.ts';
import type { FillEvent } from '../../src/mirror/fill/fill-events.ts';
import { DirectRoute, type Source, SourceList } from '../../src/mirror/fill/sources.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { RegistryError } from '../../src/oci/error.ts';
import { DiskFault } from '../../src/store/files/blob-store.ts';
import { MemoryStore } from '../support/memory-store.ts';

const KiB = 1024;
const content = Buffer.alloc(400 * KiB, 'the bytes of a blob ');
const digest = digestOf(content);
const half = 200 * KiB;
const held = 64 * KiB;

interface Behaviour extends Partial<Source> {
  readonly content?: Buffer;
  /** Half of the bytes come, and then this decides. */
  readonly middle?: (signal: AbortSignal) => Promise<void>;
  /** Whether it tells the size. */
  readonly isSized?: boolean;
}

/** A source that stops in the middle of the blob. */
function sourceOf({ content: bytes = content, middle, isSized = true, ...more }: Behaviour = {}) {
  const offsets: number[] = [];
  async function* body(offset: number, signal: AbortSignal): AsyncGenerator<Buffer> {
    if (offset < half) {
      yield bytes.subarray(offset, half);
      await middle?.(signal);
    }
    yield bytes.subarray(Math.max(offset, half));
  }
  const source: Source = {
    id: 'one',
    upstream: 'docker.io',
    repository: 'docker.io/library/app',
    connections: 1,
    open: async (_, { offset, signal }) => {
      offsets.push(offset);
      const size = isSized ? bytes.length : undefined;
      const place = { size, start: offset, end: size, contentType: 'a/b' };
      return await Promise.resolve({ ...place, body: Readable.from(body(offset, signal)) as never });
    },
    ...more,
  };
  return Object.assign(source, { offsets });
}

class Kept extends DirectRoute {
  readonly blamed: string[] = [];

  override wrongBytes(replicas?: readonly Source[]): void {
    this.blamed.push(...replicas!.map(({ id }) => id));
  }
}

function fillOf(...sources: readonly Source[]) {
  const list = new SourceList();
  list.add(sources);
  const store = new MemoryStore();
  const route = new Kept(list);
  const events: FillEvent[] = [];
  const noted = { unwanted: 0, stored: 0 };
  const fill = new Fill({
    digest,
    store,
    sources: list,
    route,
    slabs: new Slabs(),
    report: (event) => events.push(event),
    inParts: false,
    onStored: () => (noted.stored += 1),
    isLeftoverOurs: () => true,
    onUnwanted: () => (noted.unwanted += 1),
  });
  return { fill, store, route, events, noted, list };
}

/** Starts a fill that stops in the middle until it is let go on. */
async function inTheMiddle(more: Behaviour = {}) {
  const gate = Promise.withResolvers<void>();
  const middle = async (signal: AbortSignal): Promise<void> => {
    if (!signal.aborted) await Promise.race([gate.promise, once(signal, 'abort')]);
    signal.throwIfAborted();
  };
  const source = sourceOf({ middle, ...more });
  const on = fillOf(source);
  on.fill.hold();
  const running = on.fill.run();
  await expect.poll(() => on.fill.partial?.written).toBe(half);
  return { ...on, source, running, goOn: gate.resolve };
}

describe('a fill under way', () => {
  test('lets readers have all but the last part of the blob', async () => {
    const { fill, running, goOn } = await inTheMiddle();
    expect([fill.state, fill.readers, fill.receivedBytes]).toEqual(['running', 1, half]);
    expect([fill.readableFrom(0), fill.readableFrom(half)]).toEqual([half, half]);
    using recent = fill.recentFrom(1000)!;
    expect(recent.bytes.equals(content.subarray(1000, half))).toBe(true);
    goOn();
    await running;
    expect(fill.readableFrom(0)).toBe(content.length);
    using last = fill.recentFrom(half)!;
    expect(last.bytes.equals(content.subarray(half, half + last.bytes.length))).toBe(true);
  });

  test('whose size is not known holds back the last part of what has come', async () => {
    const { fill, running, goOn } = await inTheMiddle({ isSized: false });
    expect(fill.readableFrom(0)).toBe(half - held);
    using recent = fill.recentFrom(0)!;
    expect(recent.bytes.length).toBe(half - held);
    expect(fill.recentFrom(half - held)).toBeUndefined();
    using all = fill.unverifiedFrom(half - held)!;
    expect(all.bytes.equals(content.subarray(half - held, half))).toBe(true);
    goOn();
    await running;
    expect([fill.state, fill.readableFrom(0)]).toEqual(['verified', content.length]);
  });

  test('keeps nothing in memory where no one reads', async () => {
    const { fill } = fillOf(sourceOf());
    await fill.run();
    expect(fill.recentFrom(0)).toBeUndefined();
  });

  test('says when its last reader has left, and closes its file after its owner', async () => {
    const { fill, noted, running, store, goOn } = await inTheMiddle();
    fill.hold();
    expect(fill.readers).toBe(2);
    await fill.release();
    expect(noted.unwanted).toBe(0);
    await fill.release();
    expect([noted.unwanted, fill.readers]).toEqual([1, 0]);
    fill.stop();
    goOn();
    await running;
    expect(fill.failure('docker.io/library/app')).toMatchObject({ reason: 'shutting-down' });
    await fill.release();
    await using left = await store.ingest(digest);
    expect([left.written, noted.unwanted]).toEqual([half, 1]);
  });

  test('is fetched from where a reader waits, too, unless it will be there soon', async () => {
    const far = half + 4 * 1024 * KiB;
    const { fill, running, source } = await inTheMiddle({ content: Buffer.alloc(far + half) });
    fill.want(far);
    expect(source.offsets).toEqual([0]);
    fill.want(far + 1);
    await expect.poll(() => source.offsets).toEqual([0, far + 1]);
    fill.stop();
    await running;
    await fill.release();
  });

  test('wakes its readers at each step', async () => {
    const { fill, running, goOn } = await inTheMiddle();
    const woken: string[] = [];
    const watch = async (): Promise<void> => {
      while (fill.state === 'running') await fill.progress.wait(undefined);
      woken.push(fill.state);
    };
    const watching = watch();
    goOn();
    await Promise.all([running, watching]);
    expect(woken).toEqual(['verified']);
  });

  test('has received the blob before it looks for a place on the disk', async () => {
    const { fill, store, noted } = fillOf(sourceOf());
    const steps: unknown[] = [];
    await fill.run({ onReceived: () => steps.push(fill.state, fill.isStored, noted.stored) });
    expect(steps).toEqual(['verified', false, 0]);
    expect([fill.isStored, noted.stored, (await store.read(digest))?.equals(content)]).toEqual([true, 1, true]);
  });
});

describe('a fill that fails', () => {
  const denied = new RegistryError('denied', 'not for you');
  const cut = (): Promise<void> => Promise.reject(denied);

  test('keeps what has come for the next run, unless its file is its own', async () => {
    for (const [isApart, expected] of [
      [false, half],
      [true, 0],
    ] as const) {
      const { fill, store } = fillOf(sourceOf({ middle: cut }));
      await fill.run({ isApart });
      expect([fill.state, fill.failure('docker.io/library/app')]).toEqual(['failed', denied]);
      await fill.release();
      await using left = await store.ingest(digest);
      expect(left.written).toBe(expected);
    }
  });

  test('tells which sources gave wrong bytes, and what they were', async () => {
    const wrong = Buffer.alloc(content.length, 'wrong');
    const { fill, events, list } = fillOf(sourceOf({ content: wrong }));
    const heading = { size: content.length, contentType: 'a/b' };
    await fill.run();
    expect(events.find(({ kind }) => kind === 'wrong-bytes')).toEqual({
      kind: 'wrong-bytes',
      digest,
      sources: ['one'],
      actual: digestOf(wrong),
    });
    expect([fill.generation, fill.heading]).toEqual([1, undefined]);
    expect(list.next({ patience: 8, ranged: false })).toBeUndefined();
    fill.adoptHeading(heading);
    fill.adoptHeading({ ...heading, size: 1 });
    expect(fill.heading).toBe(heading);
  });

  test('blames a replica before an upstream, which is asked again', async () => {
    const wrong = Buffer.alloc(content.length, 'wrong');
    const replica = sourceOf({ id: 'r2', content: wrong, replica: 'r2', upstream: '', repository: '', middle: cut });
    const upstream = sourceOf();
    const { fill, route } = fillOf(replica, upstream);
    await fill.run();
    expect([fill.isStored, fill.isFromReplica, route.blamed]).toEqual([true, true, ['r2']]);
    expect([replica.offsets, upstream.offsets]).toEqual([[0], [half, 0]]);
  });

  test('to become visible has been received all the same', async () => {
    const { fill, events, store } = fillOf(sourceOf());
    const ingest = store.ingest.bind(store);
    store.ingest = async (...of) =>
      Object.assign(await ingest(...of), { commit: () => Promise.reject(new DiskFault('keep', new Error('full'))) });
    await fill.run();
    expect([fill.state, fill.isStored]).toEqual(['verified', false]);
    expect(events.slice(-2)).toMatchObject([{ kind: 'disk-fault' }, { kind: 'fill-ended', result: 'unstored' }]);
  });
});
