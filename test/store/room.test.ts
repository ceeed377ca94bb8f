import { describe, expect, test } from 'vitest';
import type { Digest } from '../../src/oci/digest.ts';
import { Room } from '../../src/store/eviction/room.ts';
import { bytesOf, digest, type PartOf, part } from './image-parts.ts';

describe('the room of a cache', () => {
  const MiB = 1024 * 1024;

  interface RoomOf {
    readonly offline?: boolean;
    readonly bytes?: number;
    readonly pinnedBytes?: number;
    readonly images?: Readonly<Record<string, PartOf[]>>;
  }

  function room({ offline = false, bytes = 0, pinnedBytes = 0, images = {} }: RoomOf = {}) {
    const usage = { blobs: 0, bytes, pinnedBytes, unneededBytes: 0 };
    const known = new Set<Digest>();
    const calls = { look: 0, makeRoom: 0 };
    const made = { onMade: () => {}, pass: Promise.resolve() };
    const byDigest = new Map(Object.entries(images).map(([name, parts]) => [digest(name), parts]));
    const catalog = {
      blobs: { usage: () => usage, has: (one: Digest) => known.has(one) },
      images: {
        partsToCome: (manifest: Digest) => byDigest.get(manifest) ?? [],
        parents: () => [],
        namedLately: () => [],
      },
    };
    const built = new Room({
      catalog: catalog as never,
      budget: { maxSizeBytes: 100 * MiB },
      offline,
      isInUse: () => false,
      makeRoom: () => {
        calls.makeRoom += 1;
        made.onMade();
        return made.pass;
      },
      look: () => (calls.look += 1),
    });
    return { room: built, usage, known, calls, made };
  }
  /** What fits a budget of 100 MiB. */
  const high = Math.floor(100 * MiB - (100 * MiB) / 200);
  const { signal } = new AbortController();
  const turn = () => new Promise((resolve) => setImmediate(() => setImmediate(resolve)));

  test('is given to a blob that fits, which counts until it has its row', async () => {
    const on = room();
    const claim = await on.room.claim(digest('a'), high);
    expect([claim.isGranted, on.room.claimedBytes, on.calls.makeRoom]).toEqual([true, high, 0]);
    expect(on.room.arrivals.comingBytes).toBe(high);
    claim.end(true);
    expect(on.room.claimedBytes).toBe(high);
    on.known.add(digest('a'));
    expect(on.room.claimedBytes).toBe(0);
    on.known.clear();
    await turn();
    expect([on.room.claimedBytes, on.room.arrivals.comingBytes, on.room.arrivals.heldBytes]).toEqual([0, 0, 0]);
  });

  test('is refused to a blob that can never fit', async () => {
    const on = room({ pinnedBytes: 1 });
    const claim = await on.room.claim(digest('a'), high);
    claim.end(false);
    expect([claim.isGranted, on.room.claimedBytes, on.room.arrivals.stateOf(digest('a'))]).toEqual([
      false,
      0,
      undefined,
    ]);
    expect((await on.room.claim(digest('a'), high - 1)).isGranted).toBe(true);
    const all = room({ offline: true });
    expect((await all.room.claim(digest('a'), 10 * high)).isGranted).toBe(true);
  });

  test('is made for a blob, one after the other', async () => {
    const on = room({ bytes: high - 10 });
    const seen: number[] = [];
    on.made.onMade = () => {
      seen.push(on.room.claimedBytes);
      on.usage.bytes -= 20;
    };
    const claims = await Promise.all([on.room.claim(digest('a'), 20), on.room.claim(digest('b'), 20)]);
    expect([claims.map(({ isGranted }) => isGranted), seen, on.calls.makeRoom]).toEqual([[true, true], [20, 40], 2]);
    expect(on.room.claimedBytes).toBe(40);
  });

  test('is reserved for an operation, or is not there', async () => {
    const on = room();
    const reserved = await on.room.reserve([part('a', high - 5)], signal);
    expect(on.room.arrivals.holds(digest('a'))).toBe(true);
    expect(await on.room.reserve([part('b', 6)], signal)).toBeUndefined();
    expect(on.room.arrivals.stateOf(digest('b'))).toBeUndefined();
    reserved?.[Symbol.dispose]();
    expect([on.room.arrivals.holds(digest('a')), on.calls.look]).toEqual([false, 1]);
  });

  test('is waited for until that is not wanted any more', async () => {
    const on = room();
    const image = on.room.arrivals.reserve([part('a', high)]);
    const abort = new AbortController();
    const reason = new Error('gone');
    const waiting = on.room.reserve([part('b', 10)], abort.signal);
    expect(on.room.arrivals.stateOf(digest('b'))).toBe('waiting');
    abort.abort(reason);
    await expect(waiting).rejects.toBe(reason);
    expect(on.room.arrivals.stateOf(digest('b'))).toBeUndefined();
    const next = on.room.reserve([part('c', 10)], signal);
    on.room.arrivals.end(image);
    expect(await next).toBeDefined();
  });

  test('is claimed by a blob of an image that waits, when its turn has come', async () => {
    const on = room({ images: { image: [part('layer', 10), part('config', 1)] } });
    const first = on.room.arrivals.reserve([part('a', high)]);
    on.room.arrivals.recorded(digest('image'));
    on.room.begun(digest('layer'));
    expect(on.room.arrivals.stateOf(digest('layer'))).toBe('waiting');
    const claim = on.room.claim(digest('layer'), 10);
    on.room.arrivals.end(first);
    expect((await claim).isGranted).toBe(true);
    (await claim).end(true);
    expect(bytesOf(on.room.arrivals)).toEqual([10, 1]);
  });

  test('lets files grow that have room, those that a manifest vouches for, and a few others', () => {
    const on = room({
      bytes: high,
      images: { image: [part('layer', 10), part('config', 1)], next: [part('waits', high)] },
    });
    on.room.arrivals.recorded(digest('image'));
    on.room.begun(digest('layer'));
    expect(on.room.mayGrow(digest('layer'), 1e12)).toBe(true);
    const [most, guest, second] = [5 * MiB, digest('guest'), digest('second')];
    expect([on.room.mayGrow(guest, most), on.room.mayGrow(guest, most + 1)]).toEqual([true, false]);
    expect([on.room.mayGrow(guest, most - 5), on.room.mayGrow(second, 5), on.room.mayGrow(second, 6)]).toEqual([
      true,
      true,
      false,
    ]);
    on.room.closed(guest);
    expect([on.room.mayGrow(second, most), on.calls.look]).toEqual([true, 1]);
    on.room.arrivals.recorded(digest('next'));
    on.room.begun(digest('waits'));
    expect(on.room.arrivals.stateOf(digest('waits'))).toBe('waiting');
    expect([on.room.mayGrow(digest('waits'), 100 * MiB), on.room.arrivals.stateOf(digest('waits'))]).toEqual([
      true,
      'waiting',
    ]);
    expect([on.room.mayGrow(digest('waits'), 100 * MiB + 1), on.room.arrivals.stateOf(digest('waits'))]).toEqual([
      false,
      'refused',
    ]);
    expect(room({ offline: true }).room.mayGrow(guest, 1e12)).toBe(true);
  });

  test('is taken from what was received first, where files of what waits take too much', async () => {
    const sizes = { a: 60, b: 60, c: 60, d: 60 };
    const images = Object.fromEntries(
      Object.entries(sizes).map(([name, size]) => [
        name,
        [part(`${name} 1`, (size / 2) * MiB), part(`${name} 2`, (size / 2) * MiB)],
      ]),
    );
    const on = room({ bytes: high, images });
    for (const name of ['a', 'b', 'c', 'd']) {
      on.room.arrivals.recorded(digest(name));
      on.room.begun(digest(`${name} 1`));
    }
    const states = () => ['a', 'b', 'c', 'd'].map((name) => on.room.arrivals.stateOf(digest(`${name} 2`)));
    expect(states()).toEqual(['admitted', 'waiting', 'waiting', 'waiting']);
    expect(on.room.mayGrow(digest('b 1'), 30 * MiB)).toBe(true);
    expect(on.room.mayGrow(digest('c 1'), 20 * MiB)).toBe(true);
    expect(on.room.mayGrow(digest('d 1'), 20 * MiB)).toBe(true);
    expect(states()).toEqual(['admitted', 'waiting', 'waiting', 'waiting']);
    // Of b the least is missing: it would be received first, and evicted first.
    expect(on.room.mayGrow(digest('d 1'), 30 * MiB)).toBe(true);
    expect(states()).toEqual(['admitted', 'refused', 'waiting', 'waiting']);
    // Until its files are closed they count.
    expect(on.room.mayGrow(digest('d 2'), 21 * MiB)).toBe(false);
    expect(states()).toEqual(['admitted', 'refused', 'waiting', 'refused']);
    on.room.closed(digest('b 1'));
    on.room.closed(digest('d 1'));
    on.room.closed(digest('d 2'));
    expect(on.room.mayGrow(digest('c 1'), 100 * MiB)).toBe(true);
  });

  test('is given to those that wait for eviction in their order, as soon as enough has gone', async () => {
    const on = room({ bytes: high - 10 });
    const pass = Promise.withResolvers<void>();
    on.made.pass = pass.promise;
    const claims = [on.room.claim(digest('a'), 20), on.room.claim(digest('b'), 5)];
    const granted: string[] = [];
    for (const [at, claim] of claims.entries()) void claim.then(() => granted.push('ab'[at]!));
    await turn();
    // The second one would fit, and does not overtake the first one for ever.
    expect(granted).toEqual([]);
    on.usage.bytes -= 10;
    on.room.freed();
    await claims[0];
    on.usage.bytes -= 5;
    on.room.freed();
    await claims[1];
    expect(granted).toEqual(['a', 'b']);
    pass.resolve();
  });

  test('lets files without room of their own grow into what is free and not reserved', () => {
    const on = room({ bytes: 20 * MiB });
    on.room.arrivals.reserve([part('a', 30 * MiB)]);
    const free = high - 50 * MiB;
    expect([on.room.mayGrow(digest('guest'), free), on.room.mayGrow(digest('guest'), free + 1)]).toEqual([true, false]);
  });

  test('is no longer there for a blob whose image has lost it while the blob waited', async () => {
    const on = room({ bytes: high - 10, images: { image: [part('layer', 20)] } });
    on.made.pass = new Promise(() => undefined);
    on.room.arrivals.recorded(digest('image'));
    on.room.begun(digest('layer'));
    const claim = on.room.claim(digest('layer'), 20);
    await turn();
    expect([on.room.arrivals.stateOf(digest('layer')), on.room.claimedBytes]).toEqual(['admitted', 20]);
    const [image] = on.room.arrivals.refusable();
    on.room.arrivals.refuse(image!);
    on.usage.bytes -= 20;
    on.room.freed();
    expect([(await claim).isGranted, on.room.claimedBytes]).toEqual([false, 0]);
    // The blob has no room of its own either.
    expect(on.room.arrivals.stateOf(digest('layer'))).toBe('refused');
  });

  test('of files that have come to have room counts no more for those that have none', () => {
    const images = { a: [part('a 1', high)], b: [part('b 1', 60 * MiB)], c: [part('c 1', 90 * MiB)] };
    const on = room({ bytes: high, images });
    const first = on.room.arrivals.reserve(images.a);
    for (const name of ['b', 'c']) {
      on.room.arrivals.recorded(digest(name));
      on.room.begun(digest(`${name} 1`));
    }
    expect(on.room.mayGrow(digest('b 1'), 30 * MiB)).toBe(true);
    on.room.arrivals.end(first);
    const states = () => ['b 1', 'c 1'].map((name) => on.room.arrivals.stateOf(digest(name)));
    expect(states()).toEqual(['admitted', 'waiting']);
    expect([on.room.mayGrow(digest('c 1'), 80 * MiB), states()]).toEqual([true, ['admitted', 'waiting']]);
  });

  test('is taken from no image that waits for the sake of one of which nothing has come', () => {
    const on = room({ bytes: high, images: { b: [part('b 1', 90 * MiB)], c: [part('c 1', 90 * MiB)] } });
    on.room.arrivals.reserve([part('a', high)]);
    for (const name of ['b', 'c']) {
      on.room.arrivals.recorded(digest(name));
      on.room.begun(digest(`${name} 1`));
    }
    expect(on.room.mayGrow(digest('b 1'), 80 * MiB)).toBe(true);
    const states = () => ['b 1', 'c 1'].map((name) => on.room.arrivals.stateOf(digest(name)));
    expect(states()).toEqual(['waiting', 'waiting']);
    // As soon as something of it has come, one of the two passes through: of b less is missing.
    expect(on.room.mayGrow(digest('c 1'), 1)).toBe(true);
    expect(states()).toEqual(['refused', 'waiting']);
    // It may still have as much as any file that no manifest vouches for.
    expect([on.room.mayGrow(digest('b 1'), 5 * MiB), on.room.mayGrow(digest('b 1'), 5 * MiB + 1)]).toEqual([
      true,
      false,
    ]);
  });
});
