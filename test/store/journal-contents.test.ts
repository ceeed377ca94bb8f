import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readManifest } from '../../src/oci/descriptor.ts';
import type { Digest } from '../../src/oci/digest.ts';
import { nothingRemoved } from '../../src/oci/facts.ts';
import { ociManifest, octetStream } from '../../src/oci/media-types.ts';
import { Catalog } from '../../src/store/catalog/catalog.ts';
import type { NameEntry } from '../../src/store/catalog/name-entry.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { app, digest, foreign, other, Records } from './records.ts';

async function catalogIn(path: string) {
  return await Catalog.open({
    path: join(path, 'catalog.sqlite'),
    now: () => 1_700_000_000_000,
    onFault: (error) => {
      throw error;
    },
  });
}

function record({ manifests }: Catalog, name: string, of: { repository?: string; layers?: readonly Digest[] }): Digest {
  const layers = (of.layers ?? []).map((layer) => ({ mediaType: 'application/x', digest: layer, size: 7 }));
  const links = readManifest(Buffer.from(JSON.stringify({ layers })), ociManifest);
  manifests.record(digest(name), { repository: of.repository ?? app, size: 100, contentType: ociManifest, links });
  return digest(name);
}

async function entriesOf(catalog: Catalog): Promise<NameEntry[]> {
  const found: NameEntry[] = [];
  for await (const { entries } of catalog.names.journal(0)) found.push(...entries);
  return found;
}

const byText = (entries: readonly NameEntry[]): string[] =>
  entries.map((entry) => JSON.stringify(Object.entries(entry).toSorted(([a], [b]) => (a < b ? -1 : 1)))).toSorted();

const nothing = (): Promise<void> => Promise.resolve();

describe('a rewritten journal', () => {
  test('says what the catalog knows that the files do not say, each once', async () => {
    await using folder = await temporaryDirectory('journal');
    using catalog = await catalogIn(folder.path);
    const { blobs, grants, pins, tags, names } = catalog;
    blobs.record(digest('plain'), { size: 1, contentType: octetStream });
    blobs.record(digest('odd'), { size: 1, contentType: 'text/odd' });
    blobs.record(digest('layer'), { size: 7, contentType: octetStream, shownBy: 'docker.io' });
    const image = record(catalog, 'image', { layers: [digest('layer'), digest('absent')] });
    // Its second repository may read it, and not all that it names.
    grants.grant(other, image);
    grants.grant(foreign, digest('layer'));
    blobs.record(digest('both'), { size: 1, contentType: octetStream, shownBy: 'docker.io' });
    blobs.noteShown(digest('both'), 'quay.io');
    pins.add(app, '1');
    pins.add(app, image);
    const tagged = { digest: image, contentType: ociManifest, size: 100, checkedAtMs: 5 };
    for (const [tag, variant] of [
      ['1', ''],
      ['1', 'narrow'],
      ['2', ''],
    ] as const) {
      tags.record({ repository: app, tag, variant }, tagged);
    }
    tags.record({ repository: foreign, tag: '1', variant: '' }, { ...tagged, checkedAtMs: 6 });
    const atMs = 1_700_000_000_000;
    const expected: NameEntry[] = [
      { kind: 'pin', repository: app, reference: '1', atMs },
      { kind: 'pin', repository: app, reference: image, atMs },
      { kind: 'tag', repository: app, tag: '1', variant: '', ...tagged },
      { kind: 'tag', repository: app, tag: '1', variant: 'narrow', ...tagged },
      { kind: 'tag', repository: app, tag: '2', variant: '', ...tagged },
      { kind: 'tag', repository: foreign, tag: '1', variant: '', ...tagged, checkedAtMs: 6 },
      { kind: 'type', digest: digest('odd'), contentType: 'text/odd' },
      { kind: 'shown', digest: digest('both'), upstream: 'docker.io' },
      { kind: 'shown', digest: digest('both'), upstream: 'quay.io' },
      { kind: 'shown', digest: digest('layer'), upstream: 'docker.io' },
      // Rights of two upstreams do not tell which of them has shown it.
      { kind: 'shown', digest: image, upstream: 'docker.io' },
      { kind: 'manifest', repository: app, digest: image, contentType: ociManifest },
      { kind: 'grant', repository: other, digest: image, size: -1 },
      { kind: 'grant', repository: foreign, digest: image, size: -1 },
      { kind: 'grant', repository: foreign, digest: digest('layer'), size: -1 },
    ];
    expect(names.isJournalWorn).toBe(true);
    let pages = 0;
    await names.rewriteJournal(async () => await Promise.resolve(void (pages += 1)));
    expect(pages).toBeGreaterThanOrEqual(5);
    expect(byText(await entriesOf(catalog))).toEqual(byText(expected));
    expect(names.isJournalWorn).toBe(false);
    // What comes afterwards is added.
    pins.remove(app, '1');
    expect((await entriesOf(catalog)).at(-1)).toEqual({ kind: 'unpin', repository: app, reference: '1' });
  });

  test('says all of it where there are more rows than one page has', async () => {
    await using folder = await temporaryDirectory('journal');
    using catalog = await catalogIn(folder.path);
    const { tags, grants, names } = catalog;
    const count = 110;
    catalog.together(() => {
      for (let index = 0; index < count; index += 1) {
        const one = digest(`blob ${index}`);
        catalog.blobs.record(one, { size: 1, contentType: 'text/odd', shownBy: 'docker.io' });
        catalog.blobs.noteShown(one, 'quay.io');
        tags.record(
          { repository: index % 2 === 0 ? app : other, tag: `${index}`, variant: '' },
          { digest: one, contentType: 'a/b', size: 1, checkedAtMs: 5 },
        );
        grants.grant(foreign, one);
      }
    });
    await names.rewriteJournal(nothing);
    const found = await entriesOf(catalog);
    const kinds = Map.groupBy(found, ({ kind }) => kind);
    expect(Object.fromEntries([...kinds].map(([kind, entries]) => [kind, entries.length]))).toEqual({
      grant: 2 * count,
      shown: 2 * count,
      tag: count,
      type: count,
    });
    expect(new Set(byText(found)).size).toBe(6 * count);
  });
});

describe('a line of the journal', () => {
  test('says who has shown a blob only once that is more than one upstream', async () => {
    await using folder = await temporaryDirectory('journal');
    using catalog = await catalogIn(folder.path);
    const { blobs } = catalog;
    const shown = async (of: Digest): Promise<string[]> =>
      (await entriesOf(catalog)).flatMap((entry) =>
        entry.kind === 'shown' && entry.digest === of ? [entry.upstream] : [],
      );
    const [noted, stored] = [digest('noted'), digest('stored')];
    blobs.record(noted, { size: 1, contentType: octetStream });
    blobs.noteShown(noted, 'docker.io');
    blobs.record(stored, { size: 1, contentType: octetStream, shownBy: 'docker.io' });
    expect([await shown(noted), await shown(stored)]).toEqual([[], []]);
    blobs.noteShown(noted, 'quay.io');
    blobs.record(stored, { size: 1, contentType: octetStream, shownBy: 'quay.io' });
    expect(new Set(await shown(noted))).toEqual(new Set(['docker.io', 'quay.io']));
    expect(new Set(await shown(stored))).toEqual(new Set(['docker.io', 'quay.io']));
    const lines = (await entriesOf(catalog)).length;
    blobs.noteShown(noted, 'quay.io');
    expect(await entriesOf(catalog)).toHaveLength(lines);
  });

  test('says what a blob is only where that is unusual, and of a tag only what is new', async () => {
    await using folder = await temporaryDirectory('journal');
    using catalog = await catalogIn(folder.path);
    catalog.blobs.record(digest('plain'), { size: 1, contentType: octetStream });
    catalog.blobs.record(digest('odd'), { size: 1, contentType: 'text/odd' });
    const key = { repository: app, tag: '1', variant: '' };
    const meaning = { digest: digest('odd'), contentType: 'a/b', size: 1, checkedAtMs: 5 };
    catalog.tags.record(key, meaning);
    catalog.tags.record(key, { ...meaning, checkedAtMs: 6 });
    catalog.tags.record(key, { ...meaning, digest: digest('plain'), checkedAtMs: 7 });
    catalog.tags.forget(key);
    expect(
      (await entriesOf(catalog)).map(({ kind, ...rest }) => [kind, 'digest' in rest ? rest.digest : undefined]),
    ).toEqual([
      ['type', digest('odd')],
      ['tag', digest('odd')],
      ['tag', digest('plain')],
      ['tag gone', undefined],
    ]);
  });
});

describe('an entry that is taken back', () => {
  test('gives rights, types and pins, and what is known by now stays', async () => {
    using records = await Records.open();
    const { names, grants, pins, blobs } = records.catalog;
    const take = (entry: NameEntry): void => records.catalog.together(() => names.restore(entry));
    const [image, layer, odd] = [digest('image'), digest('layer'), digest('odd')];
    take({ kind: 'manifest', repository: app, digest: image, contentType: ociManifest });
    take({ kind: 'manifest', repository: other, digest: image, contentType: 'x/y' });
    take({ kind: 'type', digest: odd, contentType: 'text/odd' });
    expect(names.remembered(image).toSorted((a, b) => (a.repository < b.repository ? -1 : 1))).toEqual([
      { digest: image, repository: app, contentType: ociManifest },
      { digest: image, repository: other, contentType: 'x/y' },
    ]);
    expect(names.remembered(odd)).toEqual([]);
    expect(names.rememberedPage({ after: '', limit: 5 })).toEqual([image]);
    expect(names.rememberedPage({ after: image, limit: 5 })).toEqual([]);
    blobs.adopt(odd, { size: 3, usedAtMs: 5 });
    expect(blobs.get(odd)?.contentType).toBe('text/odd');
    take({ kind: 'grant', repository: app, digest: layer, size: 7 });
    expect([grants.mayRead(app, layer), grants.expectedSize(app, layer)]).toEqual([true, 7]);
    take({ kind: 'right gone', repository: app, digest: image });
    expect([grants.mayRead(app, image), grants.mayRead(other, image)]).toEqual([false, true]);
    expect(names.remembered(image).map(({ repository }) => repository)).toEqual([other]);
    take({ kind: 'shown', digest: layer, upstream: 'quay.io' });
    expect(blobs.isShown(layer, 'quay.io')).toBe(false);
    blobs.adopt(layer, { size: 7, usedAtMs: 5 });
    expect([blobs.isShown(layer, 'quay.io'), blobs.isShown(layer, 'docker.io')]).toEqual([true, false]);
    take({ kind: 'shown', digest: layer, upstream: 'docker.io' });
    expect(blobs.isShown(layer, 'docker.io')).toBe(true);
    take({ kind: 'pin', repository: app, reference: '1', atMs: 5 });
    expect(pins.isPinned(app, '1')).toBe(true);
    take({ kind: 'unpin', repository: app, reference: '1' });
    expect(pins.isPinned(app, '1')).toBe(false);
    names.forgetRemembered(image);
    expect(names.remembered(image)).toEqual([]);
    take({ kind: 'manifest', repository: app, digest: image, contentType: ociManifest });
    names.forgetAllRemembered();
    expect(names.rememberedPage({ after: '', limit: 5 })).toEqual([]);
  });

  test('says what a tag was, unless something later is known', async () => {
    using records = await Records.open();
    const { names, tags } = records.catalog;
    const key = { repository: app, tag: '1', variant: '' };
    const atMs = records.nowMs - 1000;
    const take = (of: string, checkedAtMs: number): void =>
      records.catalog.together(() =>
        names.restore({ kind: 'tag', ...key, digest: digest(of), contentType: 'a/b', size: 1, checkedAtMs }),
      );
    const gone = (goneAtMs: number): void =>
      records.catalog.together(() => names.restore({ kind: 'tag gone', ...key, atMs: goneAtMs }));
    take('one', atMs);
    expect(tags.get(key)).toMatchObject({ digest: digest('one'), checkedAtMs: atMs });
    take('older', atMs - 1);
    take('same time', atMs);
    expect(tags.get(key)?.digest).toBe(digest('one'));
    take('two', atMs + 1);
    expect(tags.get(key)?.digest).toBe(digest('two'));
    gone(atMs);
    expect(tags.get(key)?.digest).toBe(digest('two'));
    gone(atMs + 1);
    expect(tags.get(key)).toBeUndefined();
    // By a clock that was ahead, it counts as long ago.
    take('ahead', records.nowMs + 1);
    take('three', atMs);
    expect(tags.get(key)?.digest).toBe(digest('three'));
  });
});

describe('what has changed', () => {
  test('is said of a blob that comes, goes or is shown, and of the parts of an image', async () => {
    using records = await Records.open();
    const { blobs, images, pins, tags } = records.catalog;
    const layer = records.blob('layer', { size: 3 });
    expect(records.changed).toEqual([`blob ${layer}`]);
    records.changed.length = 0;
    const image = records.manifest('image', { layers: [layer, digest('absent')] });
    expect(records.changed).toContain(`blob ${image}`);
    expect(images.parts(image, app).toSorted((a, b) => (a.digest < b.digest ? -1 : 1))).toEqual(
      [
        { digest: image, size: 100, isManifest: true, isStored: true },
        { digest: layer, size: 3, isManifest: false, isStored: true },
        { digest: digest('absent'), size: 7, isManifest: false, isStored: false },
      ].toSorted((a, b) => (a.digest < b.digest ? -1 : 1)),
    );
    records.changed.length = 0;
    blobs.forget(layer);
    expect(records.changed).toEqual([`blob ${layer}`, nothingRemoved]);
    // A pinned tag that moves takes its pin along.
    const second = records.manifest('second', {});
    pins.add(app, '1');
    records.tag('1', image);
    expect([images.manifest(image)?.isPinned, images.manifest(second)?.isPinned]).toEqual([true, false]);
    records.tag('1', second);
    expect([images.manifest(image)?.isPinned, images.manifest(second)?.isPinned]).toEqual([false, true]);
    tags.forget({ repository: app, tag: '1', variant: '' });
    expect(images.manifest(second)?.isPinned).toBe(true);
  });
});
