import { randomBytes } from 'node:crypto';
import { access, copyFile, mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, expect, test } from 'vitest';
import { readManifest } from '../../src/oci/descriptor.ts';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { ociIndex, ociManifest } from '../../src/oci/media-types.ts';
import { Catalog } from '../../src/store/catalog/catalog.ts';
import { type EvictionReason, Evictor } from '../../src/store/eviction/evictor.ts';
import { DiskStore } from '../../src/store/files/disk-store.ts';
import type { FileSystem } from '../../src/store/files/file-system.ts';
import { layoutOf, prepareLayout } from '../../src/store/files/layout.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

const repository = 'docker.io/library/app';
const KB = 1000;
const hourMs = 60 * 60 * 1000;

interface Part {
  readonly layers?: readonly Digest[];
  readonly children?: readonly Digest[];
  readonly subject?: Digest;
  readonly name?: string;
}

/** A cache without a mirror over it, and a clock that moves a minute with every use. */
class Shelf implements AsyncDisposable {
  readonly budget = { maxSizeBytes: 1000 * KB, minFreeBytes: 0 };
  readonly evicted: { digest: Digest; reason: EvictionReason }[] = [];
  readonly faults: unknown[] = [];
  fileSystem: FileSystem | undefined;
  nowMs = 1_700_000_000_000;
  readonly path: string;
  readonly layout;
  readonly store;
  readonly catalog;
  readonly evictor;
  readonly #owned;

  private constructor(
    path: string,
    catalog: Catalog,
    { owned, offline }: { owned: AsyncDisposableStack; offline: boolean },
  ) {
    this.path = path;
    this.catalog = catalog;
    this.layout = layoutOf(path);
    this.store = new DiskStore({ layout: this.layout, memoryBytes: 100 * KB });
    this.#owned = owned;
    this.evictor = owned.use(
      new Evictor({
        store: this.store,
        catalog,
        offline,
        budget: this.budget,
        fileSystem: () => Promise.resolve(this.fileSystem),
        observer: {
          evicted: (digest, { reason }) => this.evicted.push({ digest, reason }),
          ended: () => undefined,
          failed: (error) => this.faults.push(error),
        },
      }),
    );
  }

  static async open({ offline = false, keepsRows = false } = {}): Promise<Shelf> {
    await using owned = new AsyncDisposableStack();
    const { path } = owned.use(await temporaryDirectory('evictor'));
    await prepareLayout(layoutOf(path));
    const shelf: { current?: Shelf } = {};
    const openCatalog = async (): Promise<Catalog> =>
      await Catalog.open({
        path: layoutOf(path).catalog,
        now: () => shelf.current?.nowMs ?? 0,
        onFault: (error) => {
          if (!keepsRows) throw error;
        },
      });
    if (keepsRows) {
      (await openCatalog())[Symbol.dispose]();
      using database = new DatabaseSync(layoutOf(path).catalog);
      database.exec(`CREATE TRIGGER kept BEFORE DELETE ON blobs BEGIN SELECT RAISE(ABORT, 'rows stay'); END`);
    }
    const catalog = owned.use(await openCatalog());
    shelf.current = new Shelf(path, catalog, { owned: owned.move(), offline });
    return shelf.current;
  }

  async blob(bytes: number): Promise<Digest> {
    const content = randomBytes(bytes);
    const digest = digestOf(content);
    await this.store.put(digest, content);
    this.catalog.blobs.record(digest, { size: bytes, contentType: 'application/octet-stream' });
    return digest;
  }

  /** Stores a manifest; what it names is there already or not. */
  async manifest({ layers = [], children = [], subject, name = String(this.nowMs) }: Part): Promise<Digest> {
    this.nowMs += 60_000;
    const described = (digest: Digest) => ({
      mediaType: children.length > 0 ? ociManifest : 'application/x',
      digest,
      size: 1,
    });
    const body = Buffer.from(
      JSON.stringify({
        name,
        ...(children.length > 0 ? { manifests: children.map(described) } : { layers: layers.map(described) }),
        ...(subject && { subject: described(subject) }),
      }),
    );
    const contentType = children.length > 0 ? ociIndex : ociManifest;
    const digest = digestOf(body);
    await this.store.put(digest, body);
    const links = readManifest(body, contentType);
    this.catalog.manifests.record(digest, { repository, size: body.length, contentType, links });
    return digest;
  }

  async image(bytes: number, base: readonly Digest[] = []): Promise<{ manifest: Digest; layer: Digest }> {
    const layer = await this.blob(bytes);
    return { layer, manifest: await this.manifest({ layers: [...base, layer] }) };
  }

  tag(name: string, digest: Digest): void {
    const key = { repository, tag: name, variant: '' };
    this.catalog.tags.record(key, { digest, contentType: ociManifest, size: 1, checkedAtMs: this.nowMs });
  }

  use(manifest: Digest, times = 1): void {
    for (let time = 0; time < times; time += 1) this.catalog.uses.touch(manifest);
    this.nowMs += 60_000;
    this.catalog.uses.flush();
  }

  async isHere(digest: Digest): Promise<boolean> {
    const hasFile = await access(this.layout.blob(digest)).then(
      () => true,
      () => false,
    );
    expect(hasFile, 'the disk and the catalog agree').toBe(this.catalog.blobs.get(digest) !== undefined);
    return hasFile;
  }

  async here(...digests: readonly Digest[]): Promise<boolean[]> {
    return await Promise.all(digests.map((digest) => this.isHere(digest)));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#owned.disposeAsync();
  }
}

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
    // What goes with another image too goes with the last of them.
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

describe('a file system', () => {
  test('with less free than it should have is given space until it has', async () => {
    await using shelf = await Shelf.open();
    const stored = [await shelf.blob(100 * KB), await shelf.blob(100 * KB), await shelf.blob(100 * KB)];
    shelf.budget.minFreeBytes = 500 * KB;
    const before = 450 * KB;
    Object.defineProperty(shelf, 'fileSystem', {
      get: () => ({ totalBytes: 10_000 * KB, freeBytes: before + shelf.evicted.length * 100 * KB }),
    });
    await shelf.evictor.makeRoom();
    expect(shelf.evicted).toEqual(
      [{ digest: stored.toSorted()[0], reason: 'free' }].map((one) => ({ ...one, digest: expect.anything() })),
    );
    expect(shelf.evictor.excess).toBeUndefined();
    // It is filled by something else than this cache.
    shelf.budget.minFreeBytes = 5000 * KB;
    await shelf.evictor.makeRoom();
    expect(shelf.catalog.blobs.usage().bytes).toBe(0);
    expect(shelf.evictor.excess).toBe('free');
  });

  test('that shows only later what was freed is given no more than it lacked', async () => {
    await using shelf = await Shelf.open();
    for (let index = 0; index < 100; index += 1) await shelf.blob(5 * KB);
    shelf.budget.minFreeBytes = 500 * KB;
    shelf.fileSystem = { totalBytes: 10_000 * KB, freeBytes: 490 * KB };
    await shelf.evictor.makeRoom();
    // A twentieth more than what should be free, so that not each blob has its own pass.
    expect(shelf.evicted).toHaveLength(7);
    await shelf.evictor.makeRoom();
    expect(shelf.evicted).toHaveLength(7);
    // The budget of the cache itself counts all the while.
    shelf.budget.maxSizeBytes = 400 * KB;
    await shelf.evictor.makeRoom();
    expect(shelf.catalog.blobs.usage().bytes).toBe(390 * KB);
    // It shows, and lacks something else.
    shelf.fileSystem = { totalBytes: 10_000 * KB, freeBytes: 525 * KB };
    await shelf.evictor.makeRoom();
    shelf.fileSystem = { totalBytes: 10_000 * KB, freeBytes: 490 * KB };
    await shelf.evictor.makeRoom();
    expect(shelf.catalog.blobs.usage().bytes).toBe(355 * KB);
    expect(shelf.evictor.excess).toBeUndefined();
  });

  test('that was full has room for the next blob', async () => {
    await using shelf = await Shelf.open();
    const stored = [await shelf.blob(100 * KB), await shelf.blob(100 * KB)];
    shelf.evictor.diskWasFull();
    await shelf.evictor.makeRoom();
    expect(await shelf.here(...stored)).toEqual([false, false]);
    expect(shelf.evicted.map(({ reason }) => reason)).toEqual(['full', 'full']);
  });
});

describe('what is evicted', () => {
  test('is forgotten with all that is known for its sake only, also after a restart', async () => {
    await using shelf = await Shelf.open();
    const base = await shelf.blob(100 * KB);
    const [one, two] = [await shelf.image(500 * KB, [base]), await shelf.image(100 * KB, [base])];
    for (const { manifest } of [one, two]) shelf.catalog.grants.grant('quay.io/other', manifest);
    shelf.tag('1', one.manifest);
    shelf.tag('2', two.manifest);
    shelf.use(two.manifest, 5);
    shelf.budget.maxSizeBytes = 300 * KB;
    await shelf.evictor.makeRoom();
    const check = (catalog: Catalog): void => {
      expect(catalog.tags.names(repository)).toEqual(['2']);
      expect(catalog.tags.get({ repository, tag: '1', variant: '' })).toBeUndefined();
      expect(catalog.manifests.has(one.manifest)).toBe(false);
      expect(catalog.images.parents(base)).toEqual([two.manifest]);
      expect(catalog.grants.mayRead(repository, one.manifest)).toBe(false);
      expect(catalog.grants.mayRead('quay.io/other', one.manifest)).toBe(false);
      expect(catalog.grants.mayRead(repository, one.layer)).toBe(false);
      expect(catalog.grants.mayRead(repository, base)).toBe(true);
      expect(catalog.grants.mayRead('quay.io/other', two.manifest)).toBe(true);
      expect(catalog.blobs.usage().blobs).toBe(3);
    };
    check(shelf.catalog);
    await using copy = await temporaryDirectory();
    const path = join(copy.path, 'catalog.sqlite');
    for (const suffix of ['', '-wal']) await copyFile(shelf.layout.catalog + suffix, path + suffix);
    using again = await Catalog.open({ path, now: () => shelf.nowMs, onFault: () => undefined });
    check(again);
  });

  test('and comes back meanwhile is there afterwards, or is not, for the disk and the catalog alike', async () => {
    await using shelf = await Shelf.open();
    const content = randomBytes(70 * KB);
    const digest = digestOf(content);
    const store = async (): Promise<void> => {
      await shelf.store.put(digest, content);
      shelf.catalog.blobs.record(digest, { size: content.length, contentType: '' });
    };
    const seen = new Set<boolean>();
    for (let time = 0; time < 60; time += 1) {
      await store();
      const evict = () => shelf.store.evict(digest, () => shelf.catalog.evictions.forget(digest));
      await Promise.all(time % 2 === 0 ? [evict(), store(), evict()] : [store(), evict(), evict()]);
      seen.add(await shelf.isHere(digest));
    }
    expect(seen.has(true)).toBe(true);
  });

  test('cannot be forgotten: a few files are gone, it is said, and nothing is tried again at once', async () => {
    await using shelf = await Shelf.open({ keepsRows: true });
    for (let index = 0; index < 100; index += 1) await shelf.blob(1 * KB);
    shelf.budget.maxSizeBytes = 10 * KB;
    await shelf.evictor.makeRoom();
    await shelf.evictor.makeRoom();
    expect(shelf.faults.map(String)).toEqual(Array.from({ length: 16 }, () => 'Error: the catalog cannot be written'));
    expect(shelf.evicted).toEqual([]);
    expect(await readdir(join(shelf.layout.blobs, 'sha256'))).toHaveLength(84);
  });

  test('cannot be removed: others go in its place, and it is said once', async () => {
    await using shelf = await Shelf.open();
    for (let index = 0; index < 50; index += 1) await shelf.blob(20 * KB);
    const [coldest] = shelf.catalog.evictions.coldest(1);
    const blob = shelf.layout.blob(coldest!.digest);
    await rm(blob);
    await mkdir(blob);
    const partial = shelf.layout.partial(digestOf(Buffer.from('begun')));
    await mkdir(partial);
    // So little is wanted that it is the only one of its step; then much more.
    for (const maxSizeBytes of [1000 * KB, 300 * KB]) {
      shelf.budget.maxSizeBytes = maxSizeBytes;
      await shelf.evictor.makeRoom();
      expect(shelf.catalog.blobs.usage().bytes).toBeLessThan(maxSizeBytes);
    }
    expect(shelf.evictor.excess).toBeUndefined();
    const named = [partial, blob].map((path) => `DiskFault: cannot remove ${path}: ERR_FS_EISDIR`);
    expect(shelf.faults.map(String)).toEqual(named);
  });

  test('cannot be removed, and there is nothing else: says so, and waits before it tries again', async () => {
    await using shelf = await Shelf.open();
    const digest = digestOf(Buffer.from('a folder where the file should be'));
    shelf.catalog.blobs.record(digest, { size: 2000 * KB, contentType: '' });
    await mkdir(shelf.layout.blob(digest));
    await shelf.evictor.makeRoom();
    expect(shelf.faults).toHaveLength(1);
    await shelf.evictor.makeRoom();
    expect(shelf.faults).toHaveLength(1);
  });
});
