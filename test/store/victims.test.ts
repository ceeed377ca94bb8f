import { describe, expect, test, vi } from 'vitest';
import type { Digest } from '../../src/oci/digest.ts';
import { type Victim, Victims } from '../../src/store/eviction/victims.ts';
import { hourMs, KB, repository, Shelf } from './shelf.ts';

/** The victims of a cache, of which the test says what images on their way hold. */
function victimsOf({ catalog, store }: Shelf) {
  const held = new Set<Digest>();
  const victims = new Victims({ catalog, store, holds: (digest) => held.has(digest), pauseMs: 30_000 });
  const next = (wanted = 1e9) => victims.next(wanted).map((chain) => chain.map(({ digest }) => digest));
  const remove = async (chain: readonly Victim[], signal = new AbortController().signal) => {
    const gone: Digest[] = [];
    for await (const { digest } of victims.remove(chain, signal)) gone.push(digest);
    return gone;
  };
  return { victims, held, next, remove };
}

describe('the next blobs to be evicted', () => {
  test('are no more than it takes, and at most sixteen that have nothing to do with each other', async () => {
    await using shelf = await Shelf.open();
    const { next } = victimsOf(shelf);
    const blobs: Digest[] = [];
    for (let index = 0; index < 20; index += 1) {
      blobs.push(await shelf.blob(10 * KB));
      shelf.nowMs += hourMs;
    }
    expect(next(20 * KB)).toEqual(blobs.slice(0, 2).map((one) => [one]));
    expect(next(20 * KB + 1)).toEqual(blobs.slice(0, 3).map((one) => [one]));
    expect(next()).toEqual(blobs.slice(0, 16).map((one) => [one]));
    expect(next(0)).toEqual([]);
  });

  test('pass over those that are held or being fetched, however many these are', async () => {
    await using shelf = await Shelf.open();
    const { next, held } = victimsOf(shelf);
    for (let index = 0; index < 70; index += 1) held.add(await shelf.blob(1 * KB));
    shelf.nowMs += hourMs;
    const [fetched, used, free] = [await shelf.blob(KB), await shelf.blob(KB), await shelf.blob(KB)];
    await using _writer = await shelf.store.ingest(fetched);
    shelf.catalog.uses.touch(used);
    // A use that has been written is one no more.
    expect(next().flat().toSorted()).toEqual([used, free].toSorted());
    held.clear();
    expect(next()).toHaveLength(16);
  });

  test('have one chain for an image and the layer that only it needs', async () => {
    await using shelf = await Shelf.open();
    const { next } = victimsOf(shelf);
    const { manifest, layer } = await shelf.image(10 * KB);
    const other = await shelf.image(10 * KB);
    shelf.nowMs += 100 * hourMs;
    // Too warm to go with its manifest, and still cold enough to be next.
    for (let time = 0; time < 9; time += 1) shelf.catalog.uses.touch(layer);
    shelf.catalog.uses.flush();
    shelf.use(other.manifest, 50);
    expect(next()).toEqual([
      [manifest, layer],
      [other.manifest, other.layer],
    ]);
  });

  test('leave a layer of several images to the step after theirs', async () => {
    await using shelf = await Shelf.open();
    const { next, victims, remove } = victimsOf(shelf);
    const base = await shelf.blob(10 * KB);
    const [one, two] = [await shelf.manifest({ layers: [base] }), await shelf.manifest({ layers: [base] })];
    shelf.nowMs += hourMs;
    const chains = next();
    expect(chains).toHaveLength(2);
    expect(chains.flat().toSorted()).toEqual([one, two].toSorted());
    for (const chain of victims.next(1e9)) await remove(chain);
    expect(next()).toEqual([[base]]);
  });
});

describe('the removal of an image', () => {
  const withTwoLayers = async (shelf: Shelf) => {
    const layers = [await shelf.blob(KB), await shelf.blob(KB)];
    const manifest = await shelf.manifest({ layers });
    const { victims, remove } = victimsOf(shelf);
    const [chain = []] = victims.next(1e9);
    return { manifest, layers, chain, victims, remove };
  };

  test('says which repositories had it, and nothing of the kind of its layers', async () => {
    await using shelf = await Shelf.open();
    const { manifest, layers, chain, victims } = await withTwoLayers(shelf);
    const gone = await Array.fromAsync(victims.remove(chain, new AbortController().signal));
    expect(gone.map(({ digest, repositories }) => [digest, repositories])).toEqual([
      [manifest, [repository]],
      ...chain.slice(1).map(({ digest }) => [digest, []]),
    ]);
    expect(gone.map(({ digest }) => digest).toSorted()).toEqual([manifest, ...layers].toSorted());
  });

  test('ends where the manifest is being fetched again by then, and leaves its layers', async () => {
    await using shelf = await Shelf.open();
    const { manifest, layers, chain, remove } = await withTwoLayers(shelf);
    await using _writer = await shelf.store.ingest(manifest);
    expect(await remove(chain)).toEqual([]);
    expect(await shelf.here(manifest, ...layers)).toEqual([true, true, true]);
  });

  test('passes over a layer that is being fetched again by then', async () => {
    await using shelf = await Shelf.open();
    const { layers, chain, remove } = await withTwoLayers(shelf);
    const { digest: fetched } = chain.find(({ isLeft }) => isLeft)!;
    await using _writer = await shelf.store.ingest(fetched);
    expect(await remove(chain)).toEqual(chain.map(({ digest }) => digest).filter((one) => one !== fetched));
    expect(await shelf.here(...layers)).toEqual(layers.map((layer) => layer === fetched));
  });

  test('passes over a layer that another image has come to need', async () => {
    await using shelf = await Shelf.open();
    const { layers, chain, remove } = await withTwoLayers(shelf);
    const { digest: needed } = chain.find(({ isLeft }) => isLeft)!;
    await shelf.manifest({ layers: [needed], name: 'other' });
    expect(await remove(chain)).toEqual(chain.map(({ digest }) => digest).filter((one) => one !== needed));
    expect(await shelf.here(...layers)).toEqual(layers.map((layer) => layer === needed));
  });

  test('ends before a layer that an image needs which has come since', async () => {
    await using shelf = await Shelf.open();
    const { victims, remove } = victimsOf(shelf);
    const { manifest, layer } = await shelf.image(10 * KB);
    shelf.nowMs += 100 * hourMs;
    for (let time = 0; time < 9; time += 1) shelf.catalog.uses.touch(layer);
    shelf.catalog.uses.flush();
    const [chain = []] = victims.next(1e9);
    expect(chain.map(({ digest, isLastOfGroup }) => [digest, isLastOfGroup])).toEqual([
      [manifest, false],
      [layer, true],
    ]);
    await shelf.manifest({ layers: [layer], name: 'other' });
    expect(await remove(chain)).toEqual([manifest]);
    expect(await shelf.isHere(layer)).toBe(true);
  });

  test('ends with the evictor', async () => {
    await using shelf = await Shelf.open();
    const { chain, remove } = await withTwoLayers(shelf);
    expect(await remove(chain, AbortSignal.abort())).toEqual([]);
    expect(chain).toHaveLength(3);
  });
});

test('a blob that could not be removed is passed over for half a minute, counted from the first', async () => {
  await using shelf = await Shelf.open();
  const { victims, next } = victimsOf(shelf);
  const [one, two] = [await shelf.blob(KB), await shelf.blob(KB)];
  vi.useFakeTimers({ toFake: ['performance'] });
  try {
    victims.leaveAlone(one);
    vi.advanceTimersByTime(20_000);
    victims.leaveAlone(two);
    expect([victims.isLeftAlone(one), victims.isLeftAlone(two), next()]).toEqual([true, true, []]);
    vi.advanceTimersByTime(9_999);
    expect(next()).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(next().flat().toSorted()).toEqual([one, two].toSorted());
    victims.leaveAlone(one);
    vi.advanceTimersByTime(29_999);
    expect(next()).toEqual([[two]]);
  } finally {
    vi.useRealTimers();
  }
});
