import { existsSync } from 'node:fs';
import { mkdir, rm, stat, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Catalog } from '../../src/store/catalog/catalog.ts';
import { rebuildNote } from '../../src/store/catalog/catalog-schema.ts';
import type { NameEntry } from '../../src/store/catalog/name-entry.ts';
import { NameJournal } from '../../src/store/catalog/name-journal.ts';
import { Rebuild } from '../../src/store/catalog/rebuild.ts';
import { recallManifest } from '../../src/store/catalog/remembered-manifest.ts';
import { DiskStore } from '../../src/store/files/disk-store.ts';
import { layoutOf, prepareLayout, withFolders } from '../../src/store/files/layout.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { app, digest } from './records.ts';

const { signal } = new AbortController();

/** A cache directory with its catalog, and the steps of a rebuild that are reported. */
async function openCache() {
  const folder = await temporaryDirectory('kept');
  const layout = layoutOf(folder.path);
  await prepareLayout(layout);
  const store = new DiskStore({ layout, memoryBytes: 0 });
  const faults: unknown[] = [];
  const replaced: number[] = [];
  const catalog = await Catalog.open({
    path: layout.catalog,
    now: () => 1_700_000_000_000,
    onFault: (error) => void faults.push(error),
    onReplaced: () => void replaced.push(1),
  });
  const steps: string[] = [];
  const rebuild = new Rebuild({
    layout,
    catalog,
    store,
    report: (event) => void steps.push(event.kind === 'rebuilding' ? event.stage : event.kind),
  });
  return {
    layout,
    store,
    catalog,
    faults,
    replaced,
    rebuild,
    steps,
    entries: async () => {
      const found: NameEntry[] = [];
      for await (const { entries } of catalog.names.journal(0)) found.push(...entries);
      return found;
    },
    async [Symbol.asyncDispose]() {
      catalog[Symbol.dispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

describe('a rebuild', () => {
  test('is over before it begins where there is nothing to rebuild from', async () => {
    await using cache = await openCache();
    expect(cache.rebuild.stage).toBe('names');
    await cache.rebuild.skipIfEmpty();
    expect([cache.rebuild.stage, cache.catalog.names.isJournalWorn]).toEqual([undefined, false]);
    await cache.rebuild.run(signal);
    expect(cache.steps).toEqual([]);
  });

  test.each(['a line in the journal', 'a blob'])('is done where there is %s', async (what) => {
    await using cache = await openCache();
    if (what === 'a blob') await writeFile(join(cache.layout.blobs, 'sha512', 'x'), '');
    else cache.catalog.pins.add(app, '1');
    await new Promise(setImmediate);
    await cache.rebuild.skipIfEmpty();
    expect(cache.rebuild.stage).toBe('names');
    await cache.rebuild.run(signal);
    expect(cache.steps).toEqual(['names', 'manifests', 'files', 'rebuilt']);
    expect(cache.rebuild.stage).toBeUndefined();
  });

  test.each([
    ['names 0', ['names', 'manifests', 'files', 'rebuilt']],
    ['manifests', ['manifests', 'files', 'rebuilt']],
    ['files', ['files', 'rebuilt']],
  ])('goes on where it was interrupted: %s', async (note, steps) => {
    await using cache = await openCache();
    cache.catalog.notes.set(rebuildNote, note);
    await cache.rebuild.run(signal);
    expect(cache.steps).toEqual(steps);
  });

  test('reads no manifest again of which nothing is remembered', async () => {
    await using cache = await openCache();
    expect(await recallManifest(digest('none'), cache)).toBe(false);
  });
});

test('a catalog that has been removed while it was in use begins again, and remembers nothing of it', async () => {
  await using cache = await openCache();
  const { catalog } = cache;
  const key = { repository: app, tag: '1', variant: '' };
  catalog.tags.record(key, { digest: digest('x'), contentType: 'a/b', size: 1, checkedAtMs: 5 });
  expect(catalog.tags.get(key)?.digest).toBe(digest('x'));
  // A write that waits would go to the new file.
  catalog.together(() => undefined);
  catalog.look();
  expect(cache.replaced).toEqual([]);
  await unlink(cache.layout.catalog);
  catalog.look();
  expect([cache.replaced, catalog.tags.get(key), existsSync(cache.layout.catalog)]).toEqual([[1], undefined, true]);
  catalog.look();
  expect(cache.faults.map(String)).toEqual([
    expect.stringMatching(/ENOENT|has been removed or replaced while it was in use/),
  ]);
});

test('the removal of an image is in the journal: its tag, what is attached to it, and its rights', async () => {
  await using cache = await openCache();
  const { catalog } = cache;
  const manifest = digest('image');
  const signature = digest('signature');
  const attached = `${manifest.replace(':', '-')}.sig`;
  for (const [one, tag] of [
    [manifest, '1'],
    [signature, attached],
  ] as const) {
    const links = { manifests: [], blobs: [], subject: undefined };
    catalog.manifests.record(one, { repository: app, size: 1, contentType: 'a/b', links } as never);
    catalog.tags.record(
      { repository: app, tag, variant: '' },
      { digest: one, contentType: 'a/b', size: 1, checkedAtMs: 5 },
    );
  }
  await new Promise(setImmediate);
  const before = (await cache.entries()).length;
  catalog.removal.forget({ repository: app, reference: '1' });
  await new Promise(setImmediate);
  const said = (await cache.entries()).slice(before).map((entry) => JSON.stringify(entry));
  expect(said.toSorted()).toEqual(
    [
      { kind: 'right gone', repository: app, digest: manifest },
      { kind: 'right gone', repository: app, digest: signature },
      { kind: 'tag gone', repository: app, tag: '1', variant: '', atMs: 1_700_000_000_000 },
      { kind: 'tag gone', repository: app, tag: attached, variant: '', atMs: 1_700_000_000_000 },
    ]
      .map((entry) => JSON.stringify(Object.fromEntries(Object.entries(entry))))
      .toSorted(),
  );
});

describe('the journal of names', () => {
  const pin: NameEntry = { kind: 'pin', repository: app, reference: '1', atMs: 1 };

  test('that lacks a line lacks it still when its rewriting is given up', async () => {
    await using folder = await temporaryDirectory('journal');
    const path = join(folder.path, 'later', 'journal');
    const faults: unknown[] = [];
    using journal = new NameJournal({ path, onFault: (error) => void faults.push(error) });
    expect([journal.isComplete, faults.length]).toEqual([false, 1]);
    await mkdir(join(folder.path, 'later'));
    const stop = (): Promise<void> => Promise.reject(new Error('the mirror stops'));
    await expect(journal.rewrite([[pin]], stop)).rejects.toThrow('the mirror stops');
    // That is no fault of the disk.
    expect([journal.isComplete, faults.length, existsSync(`${path}.new`)]).toEqual([false, 1, false]);
    expect(await journal.rewrite([[pin]], () => Promise.resolve())).toBe(true);
    expect([journal.isComplete, existsSync(path)]).toEqual([true, true]);
  });

  test('that cannot be rewritten says so, and is as it was', async () => {
    await using folder = await temporaryDirectory('journal');
    const path = join(folder.path, 'journal');
    const faults: unknown[] = [];
    using journal = new NameJournal({ path, onFault: (error) => void faults.push(error) });
    journal.add(pin);
    journal.flush();
    const { bytes } = journal;
    await mkdir(`${path}.new`);
    expect(await journal.rewrite([[pin]], () => Promise.resolve())).toBe(false);
    expect([faults.length, journal.bytes, journal.isComplete]).toEqual([1, bytes, false]);
  });
});

describe('the folders of a cache', () => {
  test('are made again one by one', async () => {
    await using cache = await openCache();
    const { layout } = cache;
    for (const gone of [layout.ingest, join(layout.blobs, 'sha512'), layout.blobs]) {
      await rm(gone, { recursive: true });
      await withFolders(layout, () => writeFile(join(gone, 'x'), ''));
      expect((await stat(gone)).mode & 0o777).toBe(0o700);
      await rm(join(gone, 'x'));
    }
    let count = 0;
    const failing = withFolders(layout, () =>
      Promise.reject(Object.assign(new Error(`${(count += 1)}`), { code: 'EIO' })),
    );
    await expect(failing).rejects.toThrow('1');
    await rm(layout.dir, { recursive: true });
    await expect(withFolders(layout, () => stat(layout.ingest))).rejects.toThrow('ENOENT');
    await mkdir(layout.dir);
  });

  test('keep a file of their version that is right as it is, and say why it cannot be written', async () => {
    await using folder = await temporaryDirectory('layout');
    const layout = layoutOf(folder.path);
    await prepareLayout(layout);
    const file = join(folder.path, 'millpond.json');
    const { ino } = await stat(file);
    await prepareLayout(layout);
    expect((await stat(file)).ino).toBe(ino);
    await rm(file);
    await mkdir(`${file}.new`);
    await expect(prepareLayout(layout)).rejects.toThrow(`cannot write ${file}: it is a folder (EISDIR)`);
  });
});
