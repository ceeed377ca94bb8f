import { StatementSync } from 'node:sqlite';
import { describe, expect, test, vi } from 'vitest';
import { type Digest } from '../../src/oci/digest.ts';
import { ociManifest } from '../../src/oci/media-types.ts';
import { app, digest, foreign, other, Records, sorted } from './records.ts';

const minuteMs = 60_000;

describe('the images of the catalog', () => {
  test('are in repositories, in the order of their names, page by page', async () => {
    using records = await Records.open();
    const { images } = records.catalog;
    for (const repository of ['c.io/x', 'a.io/x', 'b.io/x']) records.tag('1', digest('m'), { repository });
    const names = (after: string, limit: number) => images.repositories({ after, limit }).map(({ name }) => name);
    expect(names('', 9)).toEqual(['a.io/x', 'b.io/x', 'c.io/x']);
    expect(names('', 2)).toEqual(['a.io/x', 'b.io/x']);
    expect(names('b.io/x', 2)).toEqual(['c.io/x']);
    expect(new Set(images.repositories({ after: '', limit: 9 }).map(({ id }) => id)).size).toBe(3);
  });

  test('are listed where one can be pulled from this disk', async () => {
    using records = await Records.open();
    const { images, grants } = records.catalog;
    const stored = records.manifest('stored', { repository: 'b/manifest' });
    records.blob('tagged');
    records.tag('1', digest('tagged'), { repository: 'b/tag' });
    records.tag('1', digest('gone'), { repository: 'b/gone' });
    grants.grant('b/blob', records.blob('layer'));
    records.tag('1', stored, { repository: 'a/x' });
    records.tag('1', stored, { repository: 'c/x' });
    const page = (prefix: string, after: string, limit: number) => images.listed({ prefix, after, limit });
    expect(page('', '', 9)).toEqual({ names: ['a/x', 'b/manifest', 'b/tag', 'c/x'], next: undefined });
    expect(page('b/', '', 9)).toEqual({ names: ['b/manifest', 'b/tag'], next: undefined });
    expect(page('b/', 'b/blob', 9).names).toEqual(['b/manifest', 'b/tag']);
    expect(page('b/', 'a', 2)).toEqual({ names: [], next: 'b/gone' });
    expect(page('b/', 'b/gone', 2)).toEqual({ names: ['b/manifest', 'b/tag'], next: 'b/tag' });
    expect(page('b/', 'b/tag', 1)).toEqual({ names: [], next: undefined });
    expect(page('', 'c/x', 9)).toEqual({ names: [], next: undefined });
    expect(page('', 'b/tag', 1)).toEqual({ names: ['c/x'], next: 'c/x' });
  });

  test('have tags, in their order, page by page', async () => {
    using records = await Records.open();
    const { images } = records.catalog;
    records.tag('2', digest('b'));
    records.tag('1', digest('a'), { variant: 'x' });
    records.tag('1', digest('a'));
    records.tag('9', digest('z'), { repository: other });
    const page = (tag: string, variant: string, limit: number) =>
      images.tags(records.id(app), { after: { tag, variant }, limit }).map((row) => [row.tag, row.variant]);
    expect(page('', '', 9)).toEqual([
      ['1', ''],
      ['1', 'x'],
      ['2', ''],
    ]);
    expect(page('1', '', 1)).toEqual([['1', 'x']]);
    expect(page('1', 'x', 9)).toEqual([['2', '']]);
    const [first] = images.tags(records.id(app), { after: { tag: '', variant: '' }, limit: 1 });
    expect(first).toEqual({ tag: '1', variant: '', digest: digest('a'), checkedAtMs: records.nowMs });
  });

  test('without a tag are those that nothing names', async () => {
    using records = await Records.open();
    const { images, grants } = records.catalog;
    const child = records.manifest('child', {});
    const index = records.manifest('index', { children: [child] });
    const tagged = records.manifest('tagged', {});
    records.tag('1', tagged);
    const lone = records.manifest('lone', {});
    const signature = records.manifest('signature', { subject: lone });
    const elsewhere = records.manifest('elsewhere', {});
    records.tag('1', elsewhere, { repository: other });
    const gone = records.manifest('gone', {});
    records.catalog.blobs.forget(gone);
    grants.grant(app, records.blob('layer'));
    const expected = sorted(index, lone, elsewhere);
    expect(images.untagged(records.id(app), { after: '', limit: 99 })).toEqual({ digests: expected, next: undefined });
    const all = sorted(child, index, tagged, lone, signature, elsewhere, gone, digest('layer'));
    const half = images.untagged(records.id(app), { after: '', limit: 4 });
    expect(half.next).toBe(all[3]);
    const rest = images.untagged(records.id(app), { after: half.next!, limit: 99 });
    expect([...half.digests, ...rest.digests]).toEqual(expected);
    expect(images.untagged(records.id(app), { after: all.at(-1)!, limit: 0 })).toEqual({
      digests: [],
      next: undefined,
    });
  });

  test('are known by themselves, and whole or not', async () => {
    using records = await Records.open();
    const { images, pins, blobs } = records.catalog;
    const [a, b] = [records.blob('a'), records.blob('b')];
    const image = records.manifest('image', { layers: [a, b] });
    expect(images.manifest(image)).toEqual({
      digest: image,
      mediaType: ociManifest,
      artifactType: undefined,
      size: 100,
      storedAtMs: records.nowMs,
      usedAtMs: records.nowMs,
      isPinned: false,
      isRecent: true,
      source: 'upstream',
    });
    pins.add(app, image);
    expect(images.manifest(image)?.isPinned).toBe(true);
    expect([images.manifest(a), images.manifest(digest('none'))]).toEqual([undefined, undefined]);
    expect(images.isWhole(image)).toBe(true);
    expect([images.isWhole(a), images.isWhole(digest('none'))]).toEqual([false, false]);
    const lacking = records.manifest('lacking', { layers: [a, digest('none')] });
    expect(images.isWhole(lacking)).toBe(false);
    const both = records.manifest('both', { children: [image, lacking] });
    const none = records.manifest('none of them', { children: [lacking, digest('not here')] });
    expect([images.isWhole(both), images.isWhole(none)]).toEqual([true, false]);
    expect(images.children(both)).toEqual(sorted(image, lacking));
    expect(images.parents(image)).toEqual([both]);
    const foreignLayer = records.manifest('foreign', {
      layers: [digest('elsewhere')],
      type: 'application/x.foreign.y',
    });
    expect(images.isWhole(foreignLayer)).toBe(true);
    // Five indexes within each other are followed, and no more.
    let outer = image;
    const nested = Array.from(
      { length: 6 },
      (_, at) => (outer = records.manifest(`nested ${at}`, { children: [outer] })),
    );
    expect(nested.map((index) => images.isWhole(index))).toEqual([true, true, true, true, false, false]);
    blobs.forget(b);
    expect(images.isWhole(image)).toBe(false);
  });

  test('have parts that are still to come, with their sizes', async () => {
    using records = await Records.open();
    const { images, pins } = records.catalog;
    const here = records.blob('here', { size: 55 });
    const image = records.manifest('image', { layers: [here, digest('to come')] });
    const index = records.manifest('index', { children: [image] });
    const byDigest = (one: { digest: string }, two: { digest: string }) => (one.digest < two.digest ? -1 : 1);
    expect(images.partsToCome(image, 9).toSorted(byDigest)).toEqual(
      [
        { digest: here, bytes: 55, isStored: true, isPinned: false },
        { digest: digest('to come'), bytes: 7, isStored: false, isPinned: false },
      ].toSorted(byDigest),
    );
    expect(images.partsToCome(image, 2)).toHaveLength(2);
    expect(images.partsToCome(image, 1)).toEqual([]);
    expect(images.partsToCome(index, 9)).toEqual([]);
    pins.add(app, image);
    expect(images.partsToCome(image, 9).filter(({ isPinned }) => isPinned)).toHaveLength(1);
  });

  test('were named lately if their manifest was used within a minute', async () => {
    using records = await Records.open();
    const { images, uses } = records.catalog;
    const layer = digest('layer');
    const many = Array.from({ length: 25 }, (_, at) => records.manifest(`many ${at}`, { layers: [digest('shared')] }));
    const first = records.manifest('first', { layers: [layer] });
    records.nowMs += minuteMs - 1;
    const second = records.manifest('second', { layers: [layer] });
    expect(images.namedLately(layer).toSorted()).toEqual(sorted(first, second));
    records.nowMs += 1;
    expect(images.namedLately(layer)).toEqual([second]);
    uses.touch(first);
    expect(images.namedLately(layer).toSorted()).toEqual(sorted(first, second));
    uses.flushAll();
    for (const one of many) uses.touch(one);
    expect(images.namedLately(digest('shared'))).toHaveLength(20);
    expect(images.namedLately(digest('none'))).toEqual([]);
    expect(
      images
        .parts(first, app)
        .map((part) => part.digest)
        .toSorted(),
    ).toEqual(sorted(first, layer));
    const signature = records.manifest('signature', { subject: first });
    expect(images.attachments(first, app)).toEqual([signature]);
    expect(images.attachments(first, other)).toEqual([]);
  });
});

describe('what is listed for those who look for it', () => {
  test('are stored manifests in order, and what each repository has of them', async () => {
    using records = await Records.open();
    const { listed, grants, blobs } = records.catalog;
    const [config, layer, large] = [
      records.blob('config', { shownBy: 'docker.io' }),
      digest('layer'),
      records.blob('large', { size: 1024 * 1024 + 1, shownBy: 'docker.io' }),
    ];
    const edge = records.blob('edge', { size: 1024 * 1024, shownBy: 'docker.io' });
    const unproven = records.blob('unproven', { shownBy: 'quay.io' });
    const image = records.manifest('image', { layers: [config, layer, large, edge, unproven] });
    const index = records.manifest('index', { children: [image] });
    records.nowMs += 5;
    const gone = records.manifest('gone', {});
    blobs.forget(gone);
    const page = (after: string, limit: number) => listed.manifests({ after, limit });
    expect(page('', 9)).toEqual(sorted(image, index));
    expect(page('', 1)).toEqual(sorted(image, index).slice(0, 1));
    expect(page(sorted(image, index)[0]!, 9)).toEqual(sorted(image, index).slice(1));
    records.tag('1', image);
    records.tag('1', image, { variant: 'x' });
    records.tag('2', image, { variant: 'x' });
    records.tag('3', image, { variant: 'x' });
    records.tag('3', index);
    grants.grant(foreign, image);
    const [found, ...others] = [...listed.of(image)];
    expect(others).toEqual([]);
    expect({ ...found, tags: found?.tags.toSorted(), smallBlobs: found?.smallBlobs.toSorted() }).toEqual({
      repository: app,
      tags: ['1', '2'],
      isListed: true,
      mediaType: ociManifest,
      sizeBytes: 100 + 5 * 7,
      storedAtMs: records.nowMs - 5,
      smallBlobs: sorted(config, edge),
    });
    expect([...listed.of(index)]).toMatchObject([
      { tags: ['3'], isListed: false, sizeBytes: 100 + 7 + 5 * 7, smallBlobs: [] },
    ]);
    expect([...listed.of(gone), ...listed.of(config)]).toEqual([]);
    blobs.noteShown(image, 'quay.io');
    expect([...listed.of(image)]).toMatchObject([
      { isListed: true },
      { repository: foreign, tags: [], isListed: false, sizeBytes: 135 },
    ]);
  });

  test('has the size of a manifest, of no more than 20,000 parts, summed once for all its repositories', async () => {
    using records = await Records.open();
    const { listed, grants } = records.catalog;
    const layersOf = (name: string) => Array.from({ length: 8_000 }, (_, at) => digest(`${name} ${at}`));
    const children = ['a', 'b', 'c'].map((name) => records.manifest(name, { layers: layersOf(name) }));
    const index = records.manifest('index', { children });
    for (let at = 0; at < 20; at += 1) grants.grant(`docker.io/library/other${at}`, children[0]!);
    const get = vi.spyOn(StatementSync.prototype, 'get');
    const sizes = [...listed.of(children[0]!)].map(({ sizeBytes }) => sizeBytes);
    const sums = get.mock.contexts.filter((statement) => (statement as StatementSync).sourceSQL.includes('SUM('));
    get.mockRestore();
    expect(sizes).toEqual(Array<number>(21).fill(100 + 8_000 * 7));
    expect(sums).toHaveLength(1);
    expect([...listed.of(index)].map(({ sizeBytes }) => sizeBytes)).toEqual([100 + 20_000 * 7]);
  });
});

describe('which manifests have changed', () => {
  test('is noted from when it is asked for, each once, the first first', async () => {
    using records = await Records.open();
    const { changes, tags, grants, blobs, evictions } = records.catalog;
    const before = records.manifest('before', {});
    changes.watch();
    changes.watch();
    const take = (limit = 9) => changes.take(limit);
    expect(take()).toEqual([]);
    const [a, b] = [records.manifest('a', {}), records.manifest('b', {})];
    records.blob('layer');
    grants.grant(other, digest('layer'));
    expect(take(1)).toEqual([a]);
    expect(take()).toEqual([b]);
    expect(take()).toEqual([]);
    const each = (change: () => void): Digest[] => {
      change();
      return take().toSorted();
    };
    expect(each(() => records.tag('1', a))).toEqual([a]);
    expect(each(() => records.tag('1', a))).toEqual([]);
    expect(each(() => records.tag('1', b))).toEqual(sorted(a, b));
    expect(each(() => tags.forget({ repository: app, tag: '1', variant: '' }))).toEqual([b]);
    expect(each(() => grants.grant(other, before))).toEqual([before]);
    expect(each(() => blobs.noteShown(a, 'quay.io'))).toEqual([a]);
    expect(each(() => blobs.noteShown(digest('layer'), 'quay.io'))).toEqual([]);
    expect(each(() => blobs.forget(a))).toEqual([a]);
    expect(each(() => blobs.record(a, { size: 100, contentType: ociManifest }))).toEqual([a]);
    expect(each(() => evictions.forget(b))).toEqual([b]);
    expect(changes.renewals).toBe(0);
  });
});

describe('what an upstream has confirmed', () => {
  test('is known with the same access, for what it leads to as well', async () => {
    using records = await Records.open();
    const { confirmations, blobs } = records.catalog;
    const layer = digest('layer');
    const image = records.manifest('image', { layers: [layer] });
    const known = (of: Digest, access = 'key', repository = app) => confirmations.isKnown(repository, of, access);
    expect(known(layer)).toBe(false);
    confirmations.note(app, layer, 'key');
    expect([known(layer), known(layer, 'else'), known(layer, 'key', other), known(image)]).toEqual([
      true,
      false,
      false,
      false,
    ]);
    confirmations.note(app, layer, 'else');
    expect([known(layer), known(layer, 'else')]).toEqual([false, true]);
    records.tag('1', image, { access: 'tag' });
    expect([known(image, 'tag'), known(layer, 'tag'), known(layer, 'tag', other)]).toEqual([true, true, false]);
    records.catalog.tags.record(
      { repository: app, tag: '1', variant: '' },
      { digest: image, contentType: ociManifest, size: 1, checkedAtMs: 0, access: 'tag' },
    );
    expect(known(image, 'tag')).toBe(false);
    confirmations.note(foreign, digest('m'), 'key');
    const theirs = records.manifest('m', { layers: [digest('l')], repository: app });
    records.catalog.grants.grant(foreign, theirs);
    expect(known(digest('l'), 'key', foreign)).toBe(false);
    blobs.noteShown(theirs, 'quay.io');
    expect(known(digest('l'), 'key', foreign)).toBe(true);
  });

  test('is followed up to four manifests', async () => {
    using records = await Records.open();
    const { confirmations } = records.catalog;
    let outer = records.manifest('0', { layers: [digest('layer')] });
    for (let at = 1; at < 6; at += 1) outer = records.manifest(String(at), { children: [outer] });
    confirmations.note(app, digest('4'), 'key');
    const known = (of: Digest) => confirmations.isKnown(app, of, 'key');
    expect([known(digest('layer')), known(digest('0')), known(digest('5'))]).toEqual([false, true, false]);
    confirmations.note(app, digest('3'), 'key');
    expect(known(digest('layer'))).toBe(true);
  });
});
