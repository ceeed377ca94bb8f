import { randomBytes } from 'node:crypto';
import { copyFile, mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { Catalog } from '../../src/store/catalog/catalog.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { KB, repository, Shelf } from './shelf.ts';

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

test('small blobs have the evictor look at once, and then at most every 50 ms', async () => {
  await using shelf = await Shelf.open();
  let looks = 0;
  shelf.budget.minFreeBytes = 1;
  Object.defineProperty(shelf, 'fileSystem', {
    get: () => {
      looks += 1;
      return { totalBytes: 10, freeBytes: 10 };
    },
  });
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  try {
    const look = async (): Promise<number> => {
      shelf.evictor.look();
      await shelf.evictor.makeRoom();
      return looks;
    };
    shelf.evictor.look();
    expect(looks).toBe(1);
    await new Promise(setImmediate);
    shelf.evictor.look();
    shelf.evictor.look();
    vi.advanceTimersByTime(49);
    expect(looks).toBe(1);
    vi.advanceTimersByTime(1);
    expect(looks).toBe(2);
    vi.advanceTimersByTime(1_000);
    expect(looks).toBe(2);
    await new Promise(setImmediate);
    expect(await look()).toBeGreaterThan(2);
    shelf.evictor.look();
    expect(vi.getTimerCount()).toBe(1);
    await shelf.evictor[Symbol.asyncDispose]();
    expect(vi.getTimerCount()).toBe(0);
    const before = looks;
    await shelf.evictor.makeRoom();
    expect(looks).toBe(before);
  } finally {
    vi.useRealTimers();
  }
});
