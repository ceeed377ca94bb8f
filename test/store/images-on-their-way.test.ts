import { describe, expect, test } from 'vitest';
import type { Digest } from '../../src/oci/digest.ts';
import { Arrivals, maxParts } from '../../src/store/eviction/arrivals.ts';
import { bytesOf, digest, type PartOf, part } from './image-parts.ts';

/** Images by their manifests. */
function start(
  limitBytes: number,
  images: Readonly<Record<string, PartOf[]>> = {},
  onArrived: (digests: readonly Digest[]) => void = () => undefined,
) {
  const inUse = new Set<Digest>();
  const state = { limitBytes, lately: {} as Record<Digest, Digest[]>, parents: {} as Record<Digest, Digest[]> };
  const byDigest = new Map(Object.entries(images).map(([name, parts]) => [digest(name), parts]));
  const arrivals = new Arrivals({
    images: {
      partsToCome(manifest, limit) {
        const found = byDigest.get(manifest) ?? [];
        return found.length > limit ? [] : found;
      },
      parents: (manifest) => state.parents[manifest] ?? [],
      namedLately: (blob) => state.lately[blob] ?? [],
    },
    limitBytes: () => state.limitBytes,
    isInUse: (one) => inUse.has(one),
    onArrived,
  });
  return { arrivals, inUse, state };
}

describe('an image whose manifest has come', () => {
  const parts = [part('config', 10), part('layer', 100), part('shared', 1000, { isStored: true })];

  test('is on its way from when something of it is begun, and has arrived when all is stored', () => {
    const { arrivals } = start(5000, { image: parts });
    expect(arrivals.stateOf(digest('layer'))).toBeUndefined();
    arrivals.recorded(digest('image'));
    expect(arrivals.holds(digest('shared'))).toBe(true);
    expect([arrivals.stateOf(digest('layer')), bytesOf(arrivals)]).toEqual(['expected', [0, 0]]);
    arrivals.begun(digest('config'));
    expect([arrivals.stateOf(digest('layer')), bytesOf(arrivals)]).toEqual(['admitted', [1000, 110]]);
    expect(arrivals.holds(digest('image'))).toBe(true);
    arrivals.stored(digest('config'), 12);
    expect(bytesOf(arrivals)).toEqual([1012, 100]);
    arrivals.stored(digest('else'), 12);
    arrivals.stored(digest('layer'), 100);
    expect([arrivals.stateOf(digest('layer')), bytesOf(arrivals), arrivals.holds(digest('image'))]).toEqual([
      undefined,
      [0, 0],
      false,
    ]);
  });

  test('is none where all of it is here, nothing is in it, or it has too many parts', () => {
    const many = (count: number) => Array.from({ length: count }, (_, at) => part(`part ${at}`, 1));
    const images = {
      whole: [part('a', 1, { isStored: true })],
      empty: [],
      most: many(maxParts),
      more: many(maxParts + 1),
    };
    for (const [name, state] of [
      ['whole', undefined],
      ['empty', undefined],
      ['most', 'admitted'],
      ['more', undefined],
    ] as const) {
      const { arrivals } = start(1e6, images);
      arrivals.recorded(digest(name));
      arrivals.begun(digest('a'));
      arrivals.begun(digest('part 0'));
      expect([name, arrivals.stateOf(digest('part 0'))]).toEqual([name, state]);
    }
  });

  test('holds the indexes that name it', () => {
    const { arrivals, state } = start(5000, { image: parts });
    state.parents[digest('image')] = [digest('index')];
    arrivals.recorded(digest('image'));
    arrivals.begun(digest('layer'));
    expect(['index', 'image', 'layer', 'else'].map((name) => arrivals.holds(digest(name)))).toEqual([
      true,
      true,
      true,
      false,
    ]);
  });

  test('holds no more indexes than an image may have parts', () => {
    const { arrivals, state } = start(5000, { image: parts });
    state.parents[digest('image')] = Array.from({ length: maxParts + 1 }, (_, at) => digest(`index ${at}`));
    arrivals.recorded(digest('image'));
    expect([maxParts - 1, maxParts].map((at) => arrivals.holds(digest(`index ${at}`)))).toEqual([true, false]);
  });

  test('has been received when its last blob has, also where others were stored at once', () => {
    const { arrivals } = start(5000, { image: [part('config', 10), part('layer', 1000)] });
    arrivals.recorded(digest('image'));
    arrivals.begun(digest('layer'));
    arrivals.stored(digest('config'), 10);
    expect(arrivals.refusable()).toEqual([]);
    arrivals.received(digest('layer'));
    expect(arrivals.refusable().map(({ manifest, receivedOrder }) => [manifest, receivedOrder])).toEqual([
      [digest('image'), 1],
    ]);
  });

  test('is found by a blob that it named lately', () => {
    const { arrivals, state } = start(5000, { image: parts });
    state.lately[digest('layer')] = [digest('image')];
    arrivals.begun(digest('layer'));
    expect(arrivals.stateOf(digest('config'))).toBe('admitted');
    arrivals.begun(digest('unknown'));
    expect(arrivals.stateOf(digest('unknown'))).toBeUndefined();
  });

  test('that can never fit is refused, and has another chance when it is used again', () => {
    const { arrivals, inUse, state } = start(1000, { image: parts });
    arrivals.recorded(digest('image'));
    arrivals.begun(digest('layer'));
    expect([arrivals.stateOf(digest('layer')), arrivals.holds(digest('layer')), bytesOf(arrivals)]).toEqual([
      'refused',
      false,
      [0, 0],
    ]);
    state.limitBytes = 1110;
    inUse.add(digest('layer'));
    arrivals.used(digest('image'));
    expect(arrivals.stateOf(digest('layer'))).toBe('refused');
    inUse.clear();
    inUse.add(digest('shared'));
    arrivals.used(digest('image'));
    expect(arrivals.stateOf(digest('layer'))).toBeUndefined();
    arrivals.begun(digest('layer'));
    expect(arrivals.stateOf(digest('layer'))).toBe('admitted');
    arrivals.used(digest('image'));
    arrivals.used(digest('none'));
    expect(arrivals.stateOf(digest('layer'))).toBe('admitted');
  });

  test('is forgotten when nothing has come for a minute and nothing of it is read', () => {
    const { arrivals, inUse } = start(5000, { image: parts, other: [part('z', 1)] });
    const nowMs = performance.now.bind(performance);
    const clock = { aheadMs: 0 };
    performance.now = () => nowMs() + clock.aheadMs;
    try {
      arrivals.recorded(digest('image'));
      arrivals.recorded(digest('other'));
      arrivals.begun(digest('layer'));
      arrivals.begun(digest('z'));
      clock.aheadMs += 59_000;
      arrivals.forgetQuiet();
      expect(arrivals.stateOf(digest('layer'))).toBe('admitted');
      inUse.add(digest('layer'));
      clock.aheadMs += 2_000;
      arrivals.forgetQuiet();
      expect(['layer', 'z'].map((name) => arrivals.stateOf(digest(name)))).toEqual(['admitted', undefined]);
      inUse.delete(digest('layer'));
      inUse.add(digest('shared'));
      clock.aheadMs += 59_000;
      arrivals.forgetQuiet();
      expect(arrivals.stateOf(digest('layer'))).toBe('admitted');
      arrivals.stored(digest('config'), 10);
      clock.aheadMs += 2_000;
      arrivals.forgetQuiet();
      expect(arrivals.stateOf(digest('layer'))).toBe('admitted');
      clock.aheadMs += 61_000;
      arrivals.forgetQuiet();
      expect([arrivals.stateOf(digest('layer')), bytesOf(arrivals)]).toEqual([undefined, [0, 0]]);
    } finally {
      performance.now = nowMs;
    }
  });

  test('is one of a thousand at most: the quietest is forgotten', () => {
    const images = Object.fromEntries(Array.from({ length: 1001 }, (_, at) => [`i${at}`, [part(`l${at}`, 1)]]));
    const { arrivals } = start(1e6, images);
    for (let at = 0; at < 1000; at += 1) arrivals.recorded(digest(`i${at}`));
    arrivals.begun(digest('l0'));
    expect(arrivals.stateOf(digest('l1'))).toBe('expected');
    arrivals.recorded(digest('i1000'));
    arrivals.begun(digest('l1000'));
    expect(['l0', 'l1', 'l2', 'l1000'].map((name) => arrivals.stateOf(digest(name)))).toEqual([
      'admitted',
      undefined,
      'expected',
      'admitted',
    ]);
  });
});

describe('an image of which all has been received', () => {
  const images = Object.fromEntries(['a', 'b', 'c', 'd'].map((name) => [name, [part(`${name} layer`, 400)]]));
  const begin = (limitBytes: number, names: readonly string[]) => {
    const arrived: Digest[][] = [];
    const { arrivals } = start(limitBytes, images, (digests) => arrived.push([...digests]));
    for (const name of names) {
      arrivals.recorded(digest(name));
      arrivals.begun(digest(`${name} layer`));
    }
    const states = () => names.map((name) => arrivals.stateOf(digest(`${name} layer`)));
    return { arrivals, states, arrived, layer: (name: string) => digest(`${name} layer`) };
  };

  test('passes through where all room belongs to images that are still on their way: these end later', () => {
    const { arrivals, states, layer } = begin(1000, ['a', 'b', 'c', 'd']);
    expect(states()).toEqual(['admitted', 'admitted', 'waiting', 'waiting']);
    arrivals.received(layer('d'));
    expect(states()).toEqual(['admitted', 'admitted', 'waiting', 'refused']);
  });

  test('waits for what was received before it and is being stored, and then takes its place', () => {
    const { arrivals, states, layer, arrived } = begin(1000, ['a', 'b', 'c']);
    for (const name of ['a', 'b', 'c']) arrivals.received(layer(name));
    expect(states()).toEqual(['admitted', 'admitted', 'waiting']);
    arrivals.stored(layer('b'), 400);
    expect(states()).toEqual(['admitted', undefined, 'admitted']);
    expect(arrived).toEqual([[layer('b'), digest('b')]]);
  });

  test('does not take the place of what was received after it', () => {
    const { arrivals, states, layer } = begin(800, ['a', 'b', 'c', 'd']);
    arrivals.received(layer('a'));
    arrivals.received(layer('c'));
    expect(states()).toEqual(['admitted', 'admitted', 'waiting', 'waiting']);
    arrivals.received(layer('b'));
    arrivals.received(layer('d'));
    // Two of them fit, and two were received after c or with room of their own.
    expect(states()).toEqual(['admitted', 'admitted', 'refused', 'waiting']);
    arrivals.stored(layer('a'), 400);
    expect(states()).toEqual([undefined, 'admitted', 'refused', 'admitted']);
  });

  test('can do without its room as long as next to nothing of it is stored', () => {
    const { arrivals, states, layer } = begin(800, ['a', 'b', 'c']);
    arrivals.received(layer('b'));
    arrivals.received(layer('a'));
    expect(arrivals.refusable().map(({ manifest }) => manifest)).toEqual(['b', 'a', 'c'].map((name) => digest(name)));
    arrivals.refuse(arrivals.refusable()[0]!);
    expect(states()).toEqual(['admitted', 'refused', 'admitted']);
    expect(bytesOf(arrivals)).toEqual([0, 800]);
  });

  test('is on its way again when one of its blobs is fetched again', () => {
    const { arrivals, states, layer } = begin(400, ['a', 'b']);
    arrivals.begun(layer('b'));
    arrivals.received(layer('b'));
    expect(states()).toEqual(['admitted', 'refused']);
    arrivals.used(digest('b'));
    arrivals.received(layer('a'));
    arrivals.begun(layer('b'));
    expect(states()).toEqual(['admitted', 'waiting']);
    arrivals.stored(layer('a'), 400);
    expect(states()).toEqual([undefined, 'admitted']);
  });
});

describe('what waits for room', () => {
  test('is admitted in its order, even where what comes later would fit', () => {
    const { arrivals } = start(1000);
    const first = arrivals.reserve([part('a', 600)]);
    const large = arrivals.reserve([part('b', 500)]);
    const small = arrivals.reserve([part('c', 100)]);
    const states = () => [first, large, small].map(({ state }) => state);
    expect(states()).toEqual(['admitted', 'waiting', 'waiting']);
    arrivals.refuse(large);
    arrivals.settle();
    expect(states()).toEqual(['admitted', 'refused', 'admitted']);
    expect(arrivals.waitingFor(digest('b'))).toEqual([]);
  });

  test('fits to the byte, and is refused beyond', async () => {
    const { arrivals } = start(1000);
    const exact = arrivals.reserve([part('a', 400), part('b', 600)]);
    expect(exact.state).toBe('admitted');
    arrivals.end(exact);
    const more = arrivals.reserve([part('a', 400), part('b', 601)]);
    expect(more.state).toBe('refused');
    await more.decided.promise;
    expect(arrivals.reserve([part('p', 9000, { isPinned: true })]).state).toBe('admitted');
    expect(arrivals.reserve([part('less', -1)]).state).toBe('admitted');
    expect(bytesOf(arrivals)).toEqual([0, 0]);
  });

  test('counts what is reserved already once', () => {
    const { arrivals } = start(1000);
    arrivals.reserve([part('a', 600)]);
    const same = arrivals.reserve([part('a', 600), part('b', 400)]);
    expect([same.state, bytesOf(arrivals)]).toEqual(['admitted', [0, 1000]]);
  });

  test('is refused at once beside what lasts as long as an operation, and waits beside an image', () => {
    const { arrivals } = start(1000);
    const lasting = arrivals.reserve([part('a', 600)], { isLasting: true });
    expect(arrivals.reserve([part('b', 401)]).state).toBe('refused');
    expect(arrivals.reserve([part('b2', 400)]).state).toBe('admitted');
    expect(arrivals.reserve([part('c', 300)]).state).toBe('waiting');
    arrivals.end(lasting);
    expect(arrivals.stateOf(digest('c'))).toBe('admitted');
    expect(arrivals.reserve([part('d', 900)]).state).toBe('waiting');
  });

  test('is refused from the last where nothing else helps', () => {
    const { arrivals } = start(1000);
    arrivals.reserve([part('a', 900)]);
    const [one, two] = [arrivals.reserve([part('b', 200)]), arrivals.reserve([part('c', 200)])];
    expect(arrivals.refuseLast()).toBe(true);
    expect([one.state, two.state]).toEqual(['waiting', 'refused']);
    expect(arrivals.refuseLast()).toBe(true);
    expect(arrivals.refuseLast()).toBe(false);
  });

  test('is as far as the farthest of the images of a blob', () => {
    const { arrivals } = start(1000, { image: [part('x', 10)] });
    arrivals.recorded(digest('image'));
    const refused = arrivals.reserve([part('x', 10), part('y', 2000)]);
    expect([refused.state, arrivals.stateOf(digest('x')), arrivals.stateOf(digest('y'))]).toEqual([
      'refused',
      'refused',
      'refused',
    ]);
    arrivals.holds(digest('x'));
    expect(arrivals.stateOf(digest('x'))).toBe('expected');
    arrivals.begun(digest('x'));
    expect(arrivals.stateOf(digest('x'))).toBe('admitted');
    expect(refused.isComplete).toBe(false);
    arrivals.stored(digest('y'), 1);
    arrivals.stored(digest('x'), 1);
    expect(refused.isComplete).toBe(true);
  });
});
