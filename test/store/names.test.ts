import { appendFile, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, expect, test } from 'vitest';
import { readManifest } from '../../src/oci/descriptor.ts';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { ociManifest } from '../../src/oci/media-types.ts';
import { Catalog } from '../../src/store/catalog/catalog.ts';
import { entryOf, lineOf, type NameEntry } from '../../src/store/catalog/name-entry.ts';
import { NameJournal } from '../../src/store/catalog/name-journal.ts';
import { Rebuild, type RebuildCounts, type RebuildEvent } from '../../src/store/catalog/rebuild.ts';
import { DiskStore } from '../../src/store/files/disk-store.ts';
import { layoutOf, prepareLayout } from '../../src/store/files/layout.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

const digest = digestOf(Buffer.from('blob'));
const pin = (reference: string): NameEntry => ({ kind: 'pin', repository: 'docker.io/a', reference, atMs: 1 });

async function entriesOf(journal: NameJournal): Promise<NameEntry[]> {
  const found: NameEntry[] = [];
  for await (const { entries } of journal.read(0)) found.push(...entries);
  return found;
}

function fail(error: unknown): never {
  throw error;
}

describe('a line of the journal of names', () => {
  test('says what it was made of, whatever is in the names', () => {
    const entries: NameEntry[] = [
      { kind: 'manifest', repository: 'docker.io/ä\n"', digest, contentType: 'a/b; charset="ü"' },
      { kind: 'tag', repository: 'r', tag: 't', variant: 'v', digest, contentType: 'c', size: 1, checkedAtMs: 2 },
      { kind: 'tag gone', repository: 'r', tag: 't', variant: '', atMs: 3 },
      { kind: 'grant', repository: 'r', digest, size: -1 },
      { kind: 'type', digest, contentType: 'text/plain' },
      { kind: 'unpin', repository: 'r', reference: 't' },
    ];
    for (const entry of entries) expect(entryOf(lineOf(entry).slice(0, -1))).toEqual(entry);
  });

  test('that has one bit flipped says nothing: no repository is ever taken for another', () => {
    const line = Buffer.from(lineOf({ kind: 'grant', repository: 'docker.io/a', digest, size: 5 })).subarray(0, -1);
    for (let bit = 0; bit < line.length * 8; bit += 1) {
      const flipped = Buffer.from(line);
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      expect(entryOf(flipped.toString('utf8'))).toBeUndefined();
    }
  });

  test('that is of another kind, or lacks something, says nothing', () => {
    const lines = [{ kind: 'else' }, { kind: 'type', digest: 'sha256:1', contentType: 'x' }, { kind: 'grant', digest }];
    for (const entry of lines) expect(entryOf(lineOf(entry as never).slice(0, -1))).toBeUndefined();
    expect(entryOf('')).toBeUndefined();
  });
});

describe('the journal of names', () => {
  test('is read to its end around what is damaged, and goes on behind a line that was cut short', async () => {
    await using folder = await temporaryDirectory();
    const path = join(folder.path, 'journal');
    {
      using journal = new NameJournal({ path, onFault: fail });
      for (const reference of ['1', '2', '3']) journal.add(pin(reference));
      expect(await entriesOf(journal)).toEqual(['1', '2', '3'].map(pin));
    }
    const length = (await readFile(path)).length;
    await truncate(path, length - 10);
    {
      using journal = new NameJournal({ path, onFault: fail });
      journal.add(pin('4'));
      expect(await entriesOf(journal)).toEqual(['1', '2', '4'].map(pin));
    }
    await appendFile(path, Buffer.alloc(300_000, 0xff));
    using journal = new NameJournal({ path, onFault: fail });
    journal.add(pin('5'));
    expect(await entriesOf(journal)).toEqual(['1', '2', '4', '5'].map(pin));
    expect(journal.isComplete).toBe(true);
  });

  test('is read in pieces of bounded size, and loses no line to where one ends', async () => {
    await using folder = await temporaryDirectory();
    const path = join(folder.path, 'journal');
    const short = Array.from({ length: 400 }, (_, index) => pin(`${index}`));
    const long = [pin('a'.repeat(8000)), pin('b'.repeat(60_000)), pin('c'.repeat(60_000))];
    const entries = [...short, ...long, ...short];
    await writeFile(
      path,
      `${entries.map((entry) => lineOf(entry)).join('')}${'x'.repeat(300_000)}\n${lineOf(pin('z'))}`,
    );
    using journal = new NameJournal({ path, onFault: fail });
    const found: NameEntry[] = [];
    let last = 0;
    for await (const batch of journal.read(0)) {
      found.push(...batch.entries);
      expect(batch.end - last).toBeLessThanOrEqual(80 * 1024);
      last = batch.end;
    }
    expect(found).toEqual([...entries, pin('z')]);
    expect(last).toBe(journal.bytes);
    const rest: NameEntry[] = [];
    const position = Buffer.byteLength(short.map((entry) => lineOf(entry)).join(''));
    for await (const batch of journal.read(position)) rest.push(...batch.entries);
    expect(rest).toEqual([...long, ...short, pin('z')]);
  });

  test('that cannot be opened says so, counts no line as written, and cannot be read', async () => {
    await using folder = await temporaryDirectory();
    const faults: unknown[] = [];
    let flushed = 0;
    using journal = new NameJournal({ path: folder.path, onFault: (error) => faults.push(error) });
    journal.onFlushed = () => (flushed += 1);
    expect(faults).toMatchObject([{ code: 'EISDIR' }]);
    journal.add(pin('1'));
    journal.flush();
    expect([journal.bytes, flushed, journal.isComplete, journal.tail(10)]).toEqual([0, 0, false, undefined]);
    await expect(entriesOf(journal)).rejects.toThrow('the journal of names could not be opened');
  });

  test('is rewritten while names come, and loses none', async () => {
    await using folder = await temporaryDirectory();
    const path = join(folder.path, 'journal');
    using journal = new NameJournal({ path, onFault: fail });
    for (let line = 0; line < 100; line += 1) journal.add(pin('old'));
    journal.flush();
    const before = journal.bytes;
    const pages = [[pin('a')], [pin('b')], [pin('c')]];
    let between = 0;
    expect(
      await journal.rewrite(pages, () => {
        journal.add(pin(`new ${(between += 1)}`));
        return Promise.resolve();
      }),
    ).toBe(true);
    const expected = ['a', 'new 1', 'b', 'new 2', 'c', 'new 3'].map(pin);
    expect(await entriesOf(journal)).toEqual(expected);
    expect(journal.bytes).toBeLessThan(before);
    expect((await readFile(path)).length).toBe(journal.bytes);
    // What ends it leaves the file as it is, with what has come meanwhile.
    await expect(
      journal.rewrite([[pin('lost')]], () => {
        journal.add(pin('kept'));
        return Promise.reject(new Error('stop'));
      }),
    ).rejects.toThrow('stop');
    expect(await entriesOf(journal)).toEqual([...expected, pin('kept')]);
  });

  test('that cannot be written reports it and asks to be rewritten', async () => {
    await using folder = await temporaryDirectory();
    const faults: unknown[] = [];
    using journal = new NameJournal({ path: join(folder.path, 'none', 'journal'), onFault: (e) => faults.push(e) });
    journal.add(pin('1'));
    journal.flush();
    expect(faults).toHaveLength(1);
    expect(journal.isComplete).toBe(false);
    expect(await journal.rewrite([], () => Promise.resolve())).toBe(false);
  });
});

/** A cache with one image of two repositories, of which the second may read only a part. */
async function cacheIn(path: string) {
  const layout = layoutOf(path);
  await prepareLayout(layout);
  const store = new DiskStore({ layout, memoryBytes: 0 });
  const layer = Buffer.from('layer');
  const body = Buffer.from(
    JSON.stringify({ layers: [{ mediaType: 'application/x', digest: digestOf(layer), size: layer.length }] }),
  );
  const manifest = digestOf(body);
  const open = () => Catalog.open({ path: layout.catalog, now: () => 5, onFault: fail });
  const rebuild = (catalog: Catalog, rebuilt: (counts: RebuildCounts) => void = () => undefined) => {
    const report = (event: RebuildEvent): void => {
      if (event.kind === 'rebuilt') rebuilt(event.counts);
      else if (event.kind === 'rebuild-fault') fail(event.fault);
    };
    return new Rebuild({ layout, catalog, store, report });
  };
  return { layout, store, layer: digestOf(layer), layerBytes: layer, manifest, body, open, rebuild };
}

const never = new AbortController().signal;

describe('a rebuild', () => {
  test('gives back every right and no other, pins, unusual types, sizes; files that no name mentions are known too', async () => {
    await using folder = await temporaryDirectory();
    const { store, layer, layerBytes, manifest, body, open, rebuild, layout } = await cacheIn(folder.path);
    const lone = Buffer.from('lone');
    await store.put(layer, layerBytes);
    await store.put(manifest, body);
    await store.put(digestOf(lone), lone);
    {
      using catalog = await open();
      const links = readManifest(body, ociManifest);
      catalog.manifests.record(manifest, {
        repository: 'a',
        size: body.length,
        contentType: `${ociManifest}; x`,
        links,
      });
      catalog.blobs.record(layer, { size: layerBytes.length, contentType: 'text/odd' });
      catalog.grants.grant('b', manifest);
      catalog.grants.grant('c', layer);
      catalog.tags.record({ repository: 'a', tag: 'gone', variant: '' }, tagRecord(manifest));
      catalog.tags.forget({ repository: 'a', tag: 'gone', variant: '' });
      catalog.pins.add('a', 'kept');
      catalog.pins.add('a', 'freed');
      catalog.pins.remove('a', 'freed');
    }
    // Once from the lines as they came, once from those that a rewrite has made of the catalog.
    for (const time of ['first', 'second']) {
      await rm(layout.catalog);
      using catalog = await open();
      const lost = rebuild(catalog);
      expect(lost.stage).toBe('names');
      await lost.run(never);
      expect([time, lost.stage]).toEqual([time, undefined]);
      expect(catalog.grants.mayRead('a', layer)).toBe(true);
      expect(catalog.grants.expectedSize('a', layer)).toBe(layerBytes.length);
      expect(catalog.grants.mayRead('b', manifest)).toBe(true);
      expect(catalog.grants.mayRead('c', layer)).toBe(true);
      expect(catalog.grants.mayRead('c', manifest)).toBe(false);
      // The journal does not tell that only the manifest was confirmed; the catalog does.
      if (time === 'second') expect(catalog.grants.mayRead('b', layer)).toBe(false);
      expect(catalog.blobs.get(manifest)?.contentType).toBe(`${ociManifest}; x`);
      expect(catalog.blobs.get(layer)).toMatchObject({ size: layerBytes.length, contentType: 'text/odd' });
      expect(catalog.blobs.get(digestOf(lone))?.size).toBe(lone.length);
      expect(catalog.blobs.usage()).toMatchObject({ blobs: 3, bytes: body.length + layerBytes.length + lone.length });
      expect(catalog.tags.names('a')).toEqual([]);
      expect(catalog.pins.list().map(({ reference }) => reference)).toEqual(['kept']);
      await catalog.names.rewriteJournal(() => Promise.resolve());
    }
  });

  test('leaves alone a file whose name is no digest', async () => {
    await using folder = await temporaryDirectory();
    const { store, layer, layerBytes, open, rebuild, layout } = await cacheIn(folder.path);
    await store.put(layer, layerBytes);
    for (const name of ['README', `${layer.slice(7)}.new`])
      await writeFile(join(layout.blobs, 'sha256', name), 'stray');
    using catalog = await open();
    let found: RebuildCounts | undefined;
    await rebuild(catalog, (counts) => void (found = counts)).run(never);
    expect(found).toMatchObject({ files: 1 });
    expect(catalog.blobs.usage()).toMatchObject({ blobs: 1, bytes: layerBytes.length });
    expect(await readFile(join(layout.blobs, 'sha256', 'README'), 'utf8')).toBe('stray');
  });

  test('goes on after a crash, wherever it was', async () => {
    await using folder = await temporaryDirectory();
    const { store, layer, layerBytes, manifest, body, open, rebuild, layout } = await cacheIn(folder.path);
    await store.put(layer, layerBytes);
    await store.put(manifest, body);
    {
      using catalog = await open();
      const links = readManifest(body, ociManifest);
      catalog.manifests.record(manifest, { repository: 'a', size: body.length, contentType: ociManifest, links });
    }
    await rm(layout.catalog);
    const stages: unknown[] = [];
    // Each start gets as far as its first step.
    for (let start = 0; start < 10; start += 1) {
      using catalog = await open();
      const again = rebuild(catalog);
      stages.push(again.stage);
      if (again.stage === undefined) break;
      const stop = new AbortController();
      if (again.stage === 'names') await again.readNames(stop.signal);
      else await again.run(again.stage === 'files' ? never : stopsSoon(catalog, stop)).catch(() => undefined);
    }
    expect(stages.at(-1)).toBeUndefined();
    expect(stages.slice(0, 2)).toEqual(['names', 'manifests']);
    using catalog = await open();
    expect(catalog.grants.mayRead('a', layer)).toBe(true);
    expect(catalog.blobs.usage().blobs).toBe(2);
  });

  test('takes no manifest whose bytes are wrong, and none that is not here', async () => {
    await using folder = await temporaryDirectory();
    const { store, layer, manifest, body, open, rebuild, layout } = await cacheIn(folder.path);
    await store.put(manifest, body);
    {
      using catalog = await open();
      const contentType = ociManifest;
      for (const one of [manifest, digest]) {
        catalog.manifests.record(one, {
          repository: 'a',
          size: 1,
          contentType,
          links: readManifest(body, ociManifest),
        });
      }
    }
    await rm(layout.catalog);
    await writeFile(layout.blob(manifest), Buffer.alloc(body.length, '{'));
    using catalog = await open();
    const counts: RebuildCounts[] = [];
    await rebuild(catalog, (found) => counts.push(found)).run(never);
    expect(counts).toMatchObject([{ manifests: 0, names: 2 }]);
    expect(catalog.grants.mayRead('a', layer)).toBe(false);
    expect([catalog.manifests.has(manifest), catalog.manifests.has(digest)]).toEqual([false, false]);
  });
});

test('a catalog that is found damaged while it is in use is set aside, and what comes is kept in a new one', async () => {
  await using folder = await temporaryDirectory();
  const path = join(folder.path, 'catalog.sqlite');
  const faults: unknown[] = [];
  const onFault = (error: unknown) => faults.push(error);
  const fill = (catalog: Catalog) => {
    for (let number = 0; number < 500; number += 1) {
      catalog.blobs.record(digestOf(Buffer.from(String(number))), { size: number, contentType: 'text/plain' });
    }
  };
  {
    using catalog = await Catalog.open({ path, now: () => 5, onFault });
    fill(catalog);
  }
  const page = pageOf(path, 'blobs');
  const content = await readFile(path);
  content.fill(0xa5, page, page + 4096);
  await writeFile(path, content);
  const { promise: replaced, resolve } = Promise.withResolvers<void>();
  {
    using catalog = await Catalog.open({ path, now: () => 5, onFault, onReplaced: resolve });
    expect(catalog.blobs.has(digest)).toBe(false);
    await replaced;
    expect(catalog.blobs.usage().blobs).toBe(0);
    catalog.blobs.record(digest, { size: 4, contentType: 'text/plain' });
    expect(catalog.blobs.has(digest)).toBe(true);
    expect(catalog.notes.get('rebuild')).toBeDefined();
  }
  expect(faults.length).toBeGreaterThan(0);
  using again = new DatabaseSync(path);
  expect(again.prepare('SELECT digest FROM blobs').all()).toEqual([{ digest }]);
  expect((await readFile(`${path}.broken`)).length).toBe(content.length);
});

/** Where in a file the first page of a table is. */
function pageOf(path: string, table: string): number {
  using database = new DatabaseSync(path);
  const row = database.prepare('SELECT rootpage FROM sqlite_master WHERE name = ?').get(table);
  return (Number(row?.['rootpage']) - 1) * 4096;
}

function tagRecord(of: Digest) {
  return { digest: of, contentType: ociManifest, size: 1, checkedAtMs: 4 };
}

/** A signal that is given as soon as the catalog notes something. */
function stopsSoon(catalog: Catalog, stop: AbortController): AbortSignal {
  const before = catalog.notes.get('rebuild');
  const look = () => (catalog.notes.get('rebuild') === before ? setImmediate(look) : stop.abort());
  setImmediate(look);
  return stop.signal;
}
