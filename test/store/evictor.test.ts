import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { hourMs, KB, repository, Shelf } from './shelf.ts';

describe('a cache over its budget', () => {
  test('gives up whole images, those first that were used least, and keeps what others need', async () => {
    await using shelf = await Shelf.open();
    const base = await shelf.blob(200 * KB);
    const [hot, cold, other] = [
      await shelf.image(200 * KB, [base]),
      await shelf.image(200 * KB, [base]),
      await shelf.image(200 * KB, [base]),
    ];
    shelf.use(hot.manifest, 5);
    shelf.use(other.manifest, 2);
    shelf.nowMs += 100 * hourMs;
    await shelf.evictor.makeRoom();
    expect(shelf.evicted).toEqual([]);
    const fresh = await shelf.image(300 * KB, [base]);
    await shelf.evictor.makeRoom();
    expect(shelf.evicted.map(({ digest }) => digest)).toEqual([cold.manifest, cold.layer]);
    expect(await shelf.here(cold.manifest, cold.layer)).toEqual([false, false]);
    expect(await shelf.here(base, hot.manifest, hot.layer, other.layer, fresh.manifest, fresh.layer)).not.toContain(
      false,
    );
    expect(shelf.catalog.blobs.usage().bytes).toBeLessThan(990 * KB);
    expect(shelf.evictor.excess).toBeUndefined();
  });

  test('gives up what no image needs before any image, and what is left of an image with it', async () => {
    await using shelf = await Shelf.open();
    const [base, own] = [await shelf.blob(100 * KB), await shelf.blob(100 * KB)];
    const cold = await shelf.manifest({ layers: [base, own, await shelf.blob(100 * KB), await shelf.blob(100 * KB)] });
    const hot = await shelf.image(100 * KB, [base]);
    shelf.use(hot.manifest, 5);
    const stray = await shelf.blob(200 * KB);
    shelf.use(stray, 20);
    expect(shelf.catalog.blobs.usage().unneededBytes).toBe(200 * KB);
    shelf.budget.maxSizeBytes = 650 * KB;
    await shelf.evictor.makeRoom();
    expect(shelf.evicted.map(({ digest }) => digest)).toEqual([stray]);
    // One blob of it would be enough; the others would be of no use to anything.
    shelf.budget.maxSizeBytes = 500 * KB;
    await shelf.evictor.makeRoom();
    expect(await shelf.here(cold, own, base, hot.manifest, hot.layer)).toEqual([false, false, true, true, true]);
    expect(shelf.catalog.blobs.usage()).toMatchObject({ blobs: 3, unneededBytes: 0 });
  });

  test('never leaves a manifest without a layer that it has had, however cold that is by itself', async () => {
    await using shelf = await Shelf.open();
    const base = await shelf.blob(10 * KB);
    const images = [];
    for (let index = 0; index < 40; index += 1) images.push(await shelf.manifest({ layers: [base], name: `${index}` }));
    const recent = await shelf.image(700 * KB);
    shelf.use(recent.manifest);
    shelf.budget.maxSizeBytes = 712 * KB;
    await shelf.evictor.makeRoom();
    const left = (await shelf.here(...images)).filter(Boolean);
    expect(left.length === 0 || (await shelf.isHere(base))).toBe(true);
    expect(left.length).toBeLessThan(40);
    expect(await shelf.isHere(recent.layer)).toBe(true);
  });

  test('gives up signatures with their image and not before it, and an index with the last of its images', async () => {
    await using shelf = await Shelf.open();
    const [amd64, arm64] = [await shelf.image(100 * KB), await shelf.image(100 * KB)];
    const index = await shelf.manifest({ children: [amd64.manifest, arm64.manifest] });
    const signature = await shelf.blob(1 * KB);
    const signing = await shelf.manifest({ layers: [signature], subject: index });
    const cosigned = await shelf.manifest({ layers: [await shelf.blob(1 * KB)] });
    shelf.tag(`sha256-${arm64.manifest.slice(7)}.sig`, cosigned);
    shelf.use(arm64.manifest, 3);
    shelf.use(index, 3);
    const fillers = [await shelf.image(300 * KB), await shelf.image(400 * KB)];
    for (const { manifest } of fillers) shelf.use(manifest, 20);
    const everything = [amd64.manifest, arm64.manifest, index, signing, cosigned];
    expect(await shelf.here(...everything)).not.toContain(false);
    shelf.budget.maxSizeBytes = 830 * KB;
    await shelf.evictor.makeRoom();
    expect(await shelf.here(...everything)).toEqual([false, true, true, true, true]);
    shelf.budget.maxSizeBytes = 730 * KB;
    await shelf.evictor.makeRoom();
    expect(await shelf.here(...everything)).toEqual([false, false, false, false, false]);
    expect(await shelf.here(fillers[0]!.layer, fillers[1]!.layer)).toEqual([true, true]);
    const order = shelf.evicted.map(({ digest }) => digest);
    expect(order.indexOf(index)).toBeLessThan(order.indexOf(signing));
    expect(order.indexOf(arm64.manifest)).toBeLessThan(order.indexOf(cosigned));
    expect(shelf.catalog.images.attachments(index, repository)).toEqual([]);
  });

  test('gives up an image to which more is attached than can go at once, and what is attached by and by', async () => {
    await using shelf = await Shelf.open();
    const image = await shelf.image(200 * KB);
    const attached: Digest[] = [];
    for (let index = 0; index < 1_050; index += 1) {
      attached.push(await shelf.manifest({ subject: image.manifest, name: `${index}` }));
    }
    const shared = attached[0]!;
    const other = await shelf.image(10 * KB);
    shelf.tag(`${other.manifest.replace(':', '-')}.att`, shared);
    const recent = await shelf.image(100 * KB);
    shelf.use(recent.manifest, 50);
    shelf.use(other.manifest, 50);
    shelf.budget.maxSizeBytes = 200 * KB;
    await shelf.evictor.makeRoom();
    expect(shelf.evicted[0]?.digest).toBe(image.manifest);
    expect(await shelf.here(image.manifest, image.layer, recent.layer)).toEqual([false, false, true]);
    // An attachment of several images is evicted with the last of them.
    expect(await shelf.here(other.manifest, shared)).toEqual([true, true]);
    expect(shelf.evictor.excess).toBeUndefined();
  });

  test('keeps what is pinned with all that it needs, and says when nothing else is left', async () => {
    await using shelf = await Shelf.open();
    const base = await shelf.blob(300 * KB);
    const [pinned, other] = [await shelf.image(300 * KB, [base]), await shelf.image(300 * KB, [base])];
    shelf.tag('pinned', pinned.manifest);
    shelf.catalog.pins.add(repository, 'pinned');
    shelf.use(other.manifest, 10);
    shelf.budget.maxSizeBytes = 400 * KB;
    await shelf.evictor.makeRoom();
    expect(await shelf.here(base, pinned.manifest, pinned.layer, other.manifest, other.layer)).toEqual([
      true,
      true,
      true,
      false,
      false,
    ]);
    expect(shelf.evictor.excess).toBe('size');
    expect(shelf.catalog.blobs.usage().pinnedBytes).toBe(shelf.catalog.blobs.usage().bytes);
    shelf.catalog.pins.remove(repository, 'pinned');
    await shelf.evictor.makeRoom();
    expect(shelf.evictor.excess).toBeUndefined();
    expect(shelf.catalog.blobs.usage().bytes).toBeLessThan(400 * KB);
  });

  test('keeps what has just come to be pinned by the configuration, before all of it is marked', async () => {
    await using shelf = await Shelf.open();
    const images = [];
    for (let index = 0; index < 200; index += 1) {
      const manifest = await shelf.manifest({ layers: [await shelf.blob(4 * KB)], name: `${index}` });
      shelf.tag(`${index}`, manifest);
      images.push(manifest);
    }
    shelf.nowMs += hourMs;
    const other = await shelf.image(300 * KB);
    shelf.budget.maxSizeBytes = 1000 * KB;
    shelf.catalog.pins.usePatterns((_, tag) => tag !== '', 'all');
    await shelf.evictor.makeRoom();
    expect(await shelf.here(...images)).not.toContain(false);
    expect(await shelf.isHere(other.layer)).toBe(false);
  });

  test('spares what was used last, and remembers what it has given up', async () => {
    await using shelf = await Shelf.open();
    const hot = [await shelf.image(300 * KB), await shelf.image(300 * KB), await shelf.image(300 * KB)];
    for (const { manifest } of hot) shelf.use(manifest, 4);
    shelf.budget.maxSizeBytes = 1010 * KB;
    shelf.nowMs += hourMs;
    // It is colder than all that is here, and stays: a roll-out is about to want it again.
    const content = randomBytes(94 * KB);
    const arrival = digestOf(content);
    const arrive = async (): Promise<void> => {
      await shelf.store.put(arrival, content);
      shelf.catalog.blobs.record(arrival, { size: content.length, contentType: '' });
      await shelf.evictor.makeRoom();
    };
    await arrive();
    expect(await shelf.isHere(arrival)).toBe(true);
    // The next one takes its place among what is recent.
    shelf.nowMs += hourMs;
    await shelf.blob(94 * KB);
    await shelf.evictor.makeRoom();
    shelf.nowMs += hourMs;
    await shelf.blob(94 * KB);
    await shelf.evictor.makeRoom();
    expect(await shelf.isHere(arrival)).toBe(false);
    // With each time it comes it is warmer, until it is worth more than what has not been used since.
    for (let time = 0; time < 6; time += 1) {
      shelf.nowMs += hourMs;
      await arrive();
      shelf.nowMs += hourMs;
      await shelf.blob(94 * KB);
      await shelf.evictor.makeRoom();
    }
    for (let time = 0; time < 3; time += 1) {
      shelf.nowMs += hourMs;
      await shelf.blob(94 * KB);
      await shelf.evictor.makeRoom();
    }
    expect(await shelf.isHere(arrival)).toBe(true);
  });

  test('leaves alone what is being read or brought here; what waits for its removal comes after it', async () => {
    await using shelf = await Shelf.open();
    const [read, filled, other] = [await shelf.blob(300 * KB), await shelf.blob(300 * KB), await shelf.blob(300 * KB)];
    shelf.budget.maxSizeBytes = 100 * KB;
    {
      await using _reader = await shelf.store.open(read);
      await using _writer = await shelf.store.ingest(filled);
      await shelf.evictor.makeRoom();
      expect(await shelf.here(read, filled, other)).toEqual([true, true, false]);
      expect(shelf.evictor.excess).toBe('size');
    }
    await shelf.evictor.makeRoom();
    expect(await shelf.here(read, filled)).toEqual([false, false]);
    expect(shelf.evictor.excess).toBeUndefined();
  });

  test('leaves alone what is noted as used and not written yet, which goes in small parts', async () => {
    await using shelf = await Shelf.open();
    const [used, other] = [await shelf.image(300 * KB), await shelf.image(300 * KB)];
    for (let index = 0; index < 20_000; index += 1) shelf.catalog.uses.touch(digestOf(Buffer.from(`${index}`)));
    shelf.catalog.uses.touch(used.manifest);
    shelf.budget.maxSizeBytes = 500 * KB;
    await shelf.evictor.makeRoom();
    expect(shelf.catalog.evictions.isTouched(used.manifest)).toBe(true);
    expect(await shelf.here(used.manifest, used.layer, other.layer)).toEqual([true, true, false]);
    // All of it comes to be written, and then counts as any other use.
    while (shelf.catalog.uses.flush());
    expect(shelf.catalog.evictions.isTouched(used.manifest)).toBe(false);
    shelf.budget.maxSizeBytes = 200 * KB;
    await shelf.evictor.makeRoom();
    expect(await shelf.here(used.manifest, used.layer)).toEqual([false, false]);
  });

  test('after its clock was ahead and has been set back keeps what is pulled, not what was then', async () => {
    await using shelf = await Shelf.open();
    const ahead = 10 * 365 * 24 * hourMs;
    shelf.nowMs += ahead;
    const then = [await shelf.image(200 * KB), await shelf.image(200 * KB), await shelf.image(200 * KB)];
    shelf.use(then[0]!.manifest, 4);
    shelf.budget.maxSizeBytes = 500 * KB;
    await shelf.evictor.makeRoom();
    expect(await shelf.isHere(then[1]!.manifest)).toBe(false);
    shelf.nowMs -= ahead;
    // A clock that has not been set yet is no reason to do anything.
    const nowMs = shelf.nowMs;
    shelf.nowMs = 0;
    expect(shelf.catalog.uses.setClockBack()).toBe(false);
    shelf.nowMs = nowMs;
    while (shelf.catalog.uses.setClockBack());
    const now = await shelf.image(200 * KB);
    shelf.use(now.manifest, 2);
    await shelf.evictor.makeRoom();
    // What was used most is the warmest still; what was evicted then comes back as if it were new.
    expect(await shelf.here(then[0]!.manifest, then[2]!.manifest, now.manifest)).toEqual([true, false, true]);
    await shelf.store.put(then[1]!.layer, randomBytes(200 * KB));
    shelf.catalog.blobs.record(then[1]!.layer, { size: 200 * KB, contentType: 'application/octet-stream' });
    shelf.nowMs += hourMs;
    const last = await shelf.image(200 * KB);
    await shelf.evictor.makeRoom();
    expect(await shelf.here(then[0]!.manifest, now.manifest, last.manifest)).toEqual([true, false, true]);
  });

  test('gives up first what was begun and is not being fetched any more', async () => {
    await using shelf = await Shelf.open();
    const stored = await shelf.blob(900 * KB);
    const begun = digestOf(Buffer.from('begun'));
    await writeFile(shelf.layout.partial(begun), randomBytes(300 * KB));
    {
      await using _writer = await shelf.store.ingest(begun);
      await shelf.evictor.makeRoom();
      // No manifest tells its size, and it may never come to its end: nothing goes for it.
      expect(shelf.evicted).toEqual([]);
      expect(await shelf.isHere(stored)).toBe(true);
    }
    shelf.nowMs += hourMs;
    const again = await shelf.blob(900 * KB);
    await shelf.evictor.makeRoom();
    expect(await shelf.isHere(again)).toBe(true);
    expect(await shelf.store.partials()).toEqual([]);
  });

  test('offline gives up nothing, and says so', async () => {
    await using shelf = await Shelf.open({ offline: true });
    const stored = await shelf.blob(900 * KB);
    shelf.budget.maxSizeBytes = 100 * KB;
    await shelf.evictor.makeRoom();
    expect(await shelf.isHere(stored)).toBe(true);
    expect(shelf.evictor.excess).toBe('size');
    shelf.budget.maxSizeBytes = 1000 * KB;
    await shelf.evictor.makeRoom();
    expect(shelf.evictor.excess).toBeUndefined();
  });
});
