import { copyFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { Catalog } from '../../src/store/catalog/catalog.ts';
import { Rebuild } from '../../src/store/catalog/rebuild.ts';
import { DiskStore } from '../../src/store/files/disk-store.ts';
import { layoutOf, nameJournalFile, prepareLayout } from '../../src/store/files/layout.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

const never = new AbortController().signal;
const between = () => Promise.resolve();
const repository = 'docker.io/library/app';
const digest = digestOf(Buffer.from('app'));

/** A cache directory whose clock goes on with each look. */
async function cacheIn(path: string) {
  const layout = layoutOf(path);
  await prepareLayout(layout);
  const store = new DiskStore({ layout, memoryBytes: 0 });
  const faults: unknown[] = [];
  const onFault = (error: unknown) => faults.push(error);
  let nowMs = 1000;
  const now = () => (nowMs += 1);
  const open = () => Catalog.open({ path: layout.catalog, now, onFault });
  const tag = (catalog: Catalog, name: string) =>
    catalog.tags.record(
      { repository, tag: name, variant: '' },
      { digest, contentType: 'text/plain', size: 3, checkedAtMs: now() },
    );
  /** What a start does, in the same order. */
  const start = async (catalog: Catalog) => {
    const rebuild = new Rebuild({ layout, catalog, store, report: () => undefined });
    await rebuild.skipIfEmpty();
    const { stage } = rebuild;
    await rebuild.run(never);
    if (catalog.names.isJournalWorn) await catalog.names.rewriteJournal(between);
    return stage;
  };
  return { faults, layout, journal: join(path, nameJournalFile), open, tag, start };
}

/** Every tag and pin that the journal alone gives back. */
async function namesAfterLoss({ layout, open, start }: Awaited<ReturnType<typeof cacheIn>>) {
  await rm(layout.catalog);
  using catalog = await open();
  expect(await start(catalog)).toBe('names');
  return { tags: catalog.tags.names(repository), pins: catalog.pins.list().map(({ reference }) => reference) };
}

test.each([
  ['that has grown by more than 1 MiB', { count: 6000, isRewritten: false }],
  ['that has grown by a few lines', { count: 3, isRewritten: false }],
  ['that was rewritten meanwhile', { count: 3, isRewritten: true }],
])('an older catalog beside a journal %s gets all of it, and none is lost', async (_, { count, isRewritten }) => {
  await using folder = await temporaryDirectory();
  const cache = await cacheIn(folder.path);
  const backup = `${cache.layout.catalog}.backup`;
  {
    using catalog = await cache.open();
    await cache.start(catalog);
    cache.tag(catalog, 'old');
    catalog.pins.add(repository, 'freed');
    await catalog.names.rewriteJournal(between);
  }
  await copyFile(cache.layout.catalog, backup);
  // A rewritten journal no longer says what was removed before: such a pin comes back with the older catalog.
  const pins = isRewritten ? ['freed', 'kept'] : ['kept'];
  const expected = ['old', ...Array.from({ length: count }, (__, number) => `new-${number}`)].toSorted();
  {
    using catalog = await cache.open();
    expect(await cache.start(catalog)).toBeUndefined();
    for (const name of expected) if (name !== 'old') cache.tag(catalog, name);
    catalog.grants.grant('docker.io/library/other', digest);
    catalog.pins.add(repository, 'kept');
    catalog.pins.remove(repository, 'freed');
    if (isRewritten) await catalog.names.rewriteJournal(between);
  }
  const { size } = await stat(cache.journal);
  if (count === 6000) expect(size).toBeGreaterThan(1024 * 1024);
  await copyFile(backup, cache.layout.catalog);
  {
    using catalog = await cache.open();
    expect(await cache.start(catalog)).toBe('names');
    expect(catalog.tags.names(repository)).toEqual(expected);
    expect(catalog.grants.mayRead('docker.io/library/other', digest)).toBe(true);
    expect(catalog.pins.list().map(({ reference }) => reference)).toEqual(pins);
  }
  {
    using catalog = await cache.open();
    expect(await cache.start(catalog)).toBeUndefined();
  }
  expect(await namesAfterLoss(cache)).toEqual({ tags: expected, pins });
  expect(cache.faults).toEqual([]);
});

test('an older journal beside a catalog undoes nothing, and is rewritten', async () => {
  await using folder = await temporaryDirectory();
  const cache = await cacheIn(folder.path);
  const backup = `${cache.journal}.backup`;
  {
    using catalog = await cache.open();
    await cache.start(catalog);
    cache.tag(catalog, 'old');
    catalog.pins.add(repository, 'kept');
    catalog.pins.remove(repository, 'kept');
  }
  await copyFile(cache.journal, backup);
  {
    using catalog = await cache.open();
    cache.tag(catalog, 'new');
    catalog.pins.add(repository, 'kept');
    await catalog.names.rewriteJournal(between);
  }
  await copyFile(backup, cache.journal);
  {
    using catalog = await cache.open();
    expect(await cache.start(catalog)).toBeUndefined();
    expect(catalog.pins.list().map(({ reference }) => reference)).toEqual(['kept']);
  }
  expect(await namesAfterLoss(cache)).toEqual({ tags: ['new', 'old'], pins: ['kept'] });
});

type Cache = Awaited<ReturnType<typeof cacheIn>>;

/** Copies what SQLite has on the disk now. */
async function copyCatalog(from: Cache, to: Cache) {
  for (const suffix of ['', '-wal']) await copyFile(from.layout.catalog + suffix, to.layout.catalog + suffix);
}

test('a catalog that ended without warning after its last commit starts without a rebuild', async () => {
  await using folder = await temporaryDirectory();
  await using copy = await temporaryDirectory();
  const cache = await cacheIn(folder.path);
  using catalog = await cache.open();
  await cache.start(catalog);
  cache.tag(catalog, 'one');
  using reader = new DatabaseSync(cache.layout.catalog, { readOnly: true });
  const committed = () => reader.prepare('SELECT count(*) AS tags FROM tags').get()?.['tags'];
  await expect.poll(committed).toBe(1);
  const other = await cacheIn(copy.path);
  await copyCatalog(cache, other);
  await copyFile(cache.journal, other.journal);
  using again = await other.open();
  expect(await other.start(again)).toBeUndefined();
  expect(again.tags.names(repository)).toEqual(['one']);
});

test('a catalog that ended without warning before its last commit reads the names from the journal', async () => {
  await using folder = await temporaryDirectory();
  await using copy = await temporaryDirectory();
  const cache = await cacheIn(folder.path);
  using catalog = await cache.open();
  await cache.start(catalog);
  const other = await cacheIn(copy.path);
  await copyCatalog(cache, other);
  cache.tag(catalog, 'one');
  await expect.poll(async () => (await stat(cache.journal)).size).toBeGreaterThan(0);
  await copyFile(cache.journal, other.journal);
  using again = await other.open();
  expect(await other.start(again)).toBe('names');
  expect(again.tags.names(repository)).toEqual(['one']);
});

test('what a fault kept out of the catalog is read from the journal at the next start', async () => {
  await using folder = await temporaryDirectory();
  const cache = await cacheIn(folder.path);
  {
    using catalog = await cache.open();
    await cache.start(catalog);
    cache.tag(catalog, 'first');
    await catalog.names.rewriteJournal(between);
  }
  const change = (sql: string) => {
    using database = new DatabaseSync(cache.layout.catalog);
    database.exec(sql);
  };
  change("CREATE TRIGGER full BEFORE INSERT ON tags BEGIN SELECT RAISE(ABORT, 'full'); END");
  {
    using catalog = await cache.open();
    expect(await cache.start(catalog)).toBeUndefined();
    for (let number = 0; number < 6000; number += 1) cache.tag(catalog, `new-${number}`);
    expect(catalog.tags.names(repository)).toEqual(['first']);
    expect(catalog.names.isJournalWorn).toBe(false);
  }
  expect(cache.faults.length).toBeGreaterThan(0);
  expect((await stat(cache.journal)).size).toBeGreaterThan(1024 * 1024);
  change('DROP TRIGGER full');
  using catalog = await cache.open();
  expect(await cache.start(catalog)).toBe('names');
  expect(catalog.tags.names(repository)).toHaveLength(6001);
});
