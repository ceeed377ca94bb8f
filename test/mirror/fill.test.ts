import { Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { Slabs } from '../../src/memory/slabs.ts';
import { Fill } from '../../src/mirror/fill/fill.ts';
import { DirectRoute, type Source, SourceList } from '../../src/mirror/fill/sources.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { RegistryError } from '../../src/oci/error.ts';
import { DiskFault, NoRoom, type PartialBlob } from '../../src/store/files/blob-store.ts';
import { MemoryStore } from '../support/memory-store.ts';

const content = Buffer.alloc(200_000, 'the bytes of a blob ');
const digest = digestOf(content);

function sourceOf(bytes: Buffer, more: Partial<Source> = {}): Source & { readonly offsets: number[] } {
  const offsets: number[] = [];
  return {
    id: 'one',
    upstream: 'docker.io',
    repository: 'docker.io/library/app',
    connections: 1,
    offsets,
    open: async (_, { offset }) => {
      offsets.push(offset);
      if (offset > bytes.length) throw new RegistryError('range-refused', 'there is no such part');
      const body = Readable.from([Buffer.from(bytes.subarray(offset))]);
      const place = { size: bytes.length, start: offset, end: bytes.length };
      return await Promise.resolve({ ...place, contentType: 'text/blob', body: body as never });
    },
    ...more,
  };
}

class Noting extends DirectRoute {
  readonly noted: unknown[] = [];

  override failed(...of: unknown[]): void {
    this.noted.push(['failed', (of[0] as Source).id]);
  }

  override wrongBytes(...of: unknown[]): void {
    this.noted.push(['wrong', (of[0] as Source[]).map(({ id }) => id)]);
  }

  override async end(...of: unknown[]): Promise<void> {
    await Promise.resolve(this.noted.push(['end', ...of]));
  }
}

interface More {
  readonly store?: MemoryStore;
  readonly isLeftoverOurs?: boolean;
  readonly partial?: (partial: PartialBlob) => void;
}

function fillOf(sources: readonly Source[], { store = new MemoryStore(), isLeftoverOurs = true, partial }: More = {}) {
  const list = new SourceList();
  list.add(sources);
  const route = new Noting(list);
  const events: string[] = [];
  const stored: object[] = [];
  if (partial) {
    const ingest = store.ingest.bind(store);
    store.ingest = async (...of) => {
      const opened = await ingest(...of);
      partial(opened);
      return opened;
    };
  }
  const fill = new Fill({
    digest,
    store,
    sources: list,
    route,
    slabs: new Slabs(),
    report: (event) => events.push('result' in event ? `${event.kind} ${event.result}` : event.kind),
    inParts: false,
    onStored: (blob) => stored.push(blob),
    isLeftoverOurs: () => isLeftoverOurs,
    onUnwanted: () => undefined,
  });
  return { fill, store, route, events, stored };
}

/** What an earlier run has left. */
async function leftover(bytes: Buffer): Promise<MemoryStore> {
  const store = new MemoryStore();
  await using partial = await store.ingest(digest);
  await partial.append([bytes]);
  return store;
}

describe('a fill', () => {
  test('that gets the right bytes stores them, with the type that its source says', async () => {
    const { fill, store, route, events, stored } = fillOf([sourceOf(content)]);
    await fill.run();
    expect([fill.state, fill.isStored, fill.isRefused, fill.isFromReplica, fill.receivedBytes]).toEqual([
      'verified',
      true,
      false,
      false,
      content.length,
    ]);
    expect(stored).toEqual([{ size: content.length, contentType: 'text/blob', modifiedAtMs: expect.any(Number) }]);
    expect([fill.heading, [...fill.confirmed]]).toEqual([
      { size: content.length, contentType: 'text/blob' },
      ['docker.io/library/app'],
    ]);
    expect((await store.read(digest))?.equals(content)).toBe(true);
    expect(route.noted).toEqual([['end', true]]);
    expect([events[0], events.at(-1)]).toEqual(['fill-started', 'fill-ended stored']);
    expect([fill.readableFrom(0), fill.generation]).toEqual([content.length, 0]);
  });

  test('from a replica confirms no right', async () => {
    const { fill } = fillOf([sourceOf(content, { replica: 'r2', upstream: '', repository: '' })]);
    await fill.run();
    expect([fill.isStored, fill.isFromReplica, [...fill.confirmed]]).toEqual([true, true, []]);
  });

  test('that gets wrong bytes begins again at another source', async () => {
    const wrong = Buffer.alloc(content.length, 'wrong');
    const { fill, route, events, store } = fillOf([sourceOf(wrong), sourceOf(content, { id: 'two' })]);
    await fill.run();
    expect([fill.isStored, fill.generation, events.includes('wrong-bytes')]).toEqual([true, 1, true]);
    expect(route.noted).toEqual([
      ['wrong', []],
      ['end', true],
    ]);
    expect((await store.read(digest))?.equals(content)).toBe(true);
    const only = fillOf([sourceOf(wrong)]);
    await only.fill.run();
    expect([only.fill.state, only.events.at(-1), only.route.noted.at(-1)]).toEqual([
      'failed',
      'fill-ended failed',
      ['end', false],
    ]);
    expect(only.fill.failure('docker.io/library/app')).toMatchObject({ reason: 'wrong-bytes' });
  });

  test('tells its route of each failure', async () => {
    const denied = new RegistryError('denied', 'not for you');
    const { fill, route } = fillOf([
      sourceOf(content, { open: () => Promise.reject(denied) }),
      sourceOf(content, { id: 'two' }),
    ]);
    await fill.run();
    expect([fill.isStored, route.noted]).toEqual([
      true,
      [
        ['failed', 'one'],
        ['end', true],
      ],
    ]);
  });
});

describe('what an earlier run has left', () => {
  test('is continued, or is the blob already', async () => {
    const source = sourceOf(content);
    const part = fillOf([source], { store: await leftover(content.subarray(0, 50_000)) });
    await part.fill.run();
    expect([part.fill.isStored, source.offsets]).toEqual([true, [50_000]]);
    const none = sourceOf(content);
    const whole = fillOf([none], { store: await leftover(content) });
    await whole.fill.run();
    expect([whole.fill.isStored, none.offsets]).toEqual([true, []]);
    expect(whole.fill.heading).toEqual({ size: content.length, contentType: 'application/octet-stream' });
  });

  test('of another upstream, or as long as the blob and not the blob, is not used', async () => {
    const foreign = sourceOf(content);
    const other = fillOf([foreign], { store: await leftover(content.subarray(0, 50_000)), isLeftoverOurs: false });
    await other.fill.run();
    expect([other.fill.isStored, foreign.offsets]).toEqual([true, [0]]);
    const source = sourceOf(content);
    const wrong = fillOf([source], { store: await leftover(Buffer.alloc(content.length, 'x')) });
    wrong.fill.expectedSizes.add(content.length);
    await wrong.fill.run();
    expect([wrong.fill.isStored, source.offsets]).toEqual([true, [0]]);
  });

  test('and is longer than the blob is given up when the source refuses to go on from there', async () => {
    const source = sourceOf(content);
    const { fill } = fillOf([source], { store: await leftover(Buffer.alloc(content.length + 1, 'x')) });
    await fill.run();
    expect([fill.isStored, source.offsets.at(-1)]).toEqual([true, 0]);
  });

  test('and was wrong is not held against the source', async () => {
    const source = sourceOf(content);
    const { fill } = fillOf([source], { store: await leftover(Buffer.alloc(1000, 'x')) });
    await fill.run();
    expect([fill.isStored, source.offsets, fill.generation]).toEqual([true, [1000, 0], 1]);
  });
});

describe('a disk', () => {
  const fault = new DiskFault('write', Object.assign(new Error('full'), { code: 'ENOSPC' }));

  test('without room for the blob refuses it', async () => {
    const { fill, events, stored } = fillOf([sourceOf(content)], {
      partial: (opened) => (opened.commit = () => Promise.resolve(undefined)),
    });
    await fill.run();
    expect([fill.state, fill.isStored, fill.isRefused, stored]).toEqual(['verified', false, true, []]);
    expect(events.at(-1)).toBe('fill-ended passed');
    const early = fillOf([sourceOf(content)], {
      partial: (opened) => (opened.write = () => Promise.reject(new NoRoom())),
    });
    await early.fill.run();
    expect([early.fill.state, early.fill.isRefused, early.events.includes('disk-fault')]).toEqual([
      'spilled',
      true,
      false,
    ]);
  });

  test('that fails ends the fill, and not what its readers can still get', async () => {
    const { fill, events } = fillOf([sourceOf(content)], {
      partial: (opened) => (opened.write = () => Promise.reject(fault)),
    });
    await fill.run();
    expect([fill.state, fill.isRefused, events.includes('disk-fault'), events.at(-1)]).toEqual([
      'spilled',
      false,
      true,
      'fill-ended failed',
    ]);
    const late = fillOf([sourceOf(content)], { partial: (opened) => (opened.commit = () => Promise.reject(fault)) });
    await late.fill.run();
    expect([late.fill.state, late.fill.isStored, late.fill.readableFrom(0)]).toEqual([
      'verified',
      false,
      content.length,
    ]);
  });

  test('is left as it is by a fill that is stopped', async () => {
    const opened = Promise.withResolvers<void>();
    const stuck = sourceOf(content, {
      open: async (_, { signal }) => {
        opened.resolve();
        const { promise, reject } = Promise.withResolvers<never>();
        signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
        return await promise;
      },
    });
    const { fill } = fillOf([stuck], { store: await leftover(content.subarray(0, 1000)) });
    const running = fill.run();
    await opened.promise;
    fill.stop();
    await running;
    expect([fill.state, fill.failure('docker.io/library/app')]).toMatchObject(['failed', { reason: 'shutting-down' }]);
    expect(fill.partial?.written).toBe(1000);
  });
});
