import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ociManifest } from '../../src/oci/media-types.ts';
import { Catalog } from '../../src/store/catalog/catalog.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { app, digest, foreign, other, Records, sorted } from './records.ts';

const key = (tag: string, repository = app, variant = '') => ({ repository, tag, variant });

describe('a tag', () => {
  test('is listed where its manifest is stored, and where it was confirmed since a time', async () => {
    using records = await Records.open();
    const { tags } = records.catalog;
    const image = records.manifest('image', {});
    records.tag('b', image);
    records.tag('a', image);
    records.tag('a', image, { variant: 'x' });
    records.tag('gone', digest('gone'));
    records.tag('other', image, { repository: other });
    expect(tags.names(app)).toEqual(['a', 'b', 'gone']);
    expect(tags.storedNames(app)).toEqual(['a', 'b']);
    const sinceMs = records.nowMs;
    records.nowMs += 1;
    records.tag('c', image);
    expect([tags.confirmedNames(app, sinceMs), tags.confirmedNames(app, sinceMs + 1)]).toEqual([
      ['a', 'b', 'c'],
      ['c'],
    ]);
    tags.record(key('b'), { digest: image, contentType: ociManifest, size: 1, checkedAtMs: 0 });
    expect(tags.confirmedNames(app, 0)).toEqual(['a', 'c']);
    expect(tags.standingFor(image)).toHaveLength(5);
    expect(tags.standingFor(digest('none'))).toEqual([]);
  });

  test('that is new or moves is news, by the answer to our own list alone', async () => {
    using records = await Records.open();
    const { tags } = records.catalog;
    const [one, two] = [digest('one'), digest('two')];
    records.tag('1', one);
    records.tag('1', one);
    records.tag('1', two, { variant: 'x' });
    records.tag('1', two);
    tags.forget(key('1', app, 'x'));
    tags.forget(key('1'));
    tags.forget(key('1'));
    const moved = { kind: 'tag', repository: app, tag: '1' };
    expect(records.news).toEqual([
      { ...moved, digest: one, before: undefined },
      { ...moved, digest: two, before: one },
      { ...moved, kind: 'tag gone', before: two },
    ]);
    expect(tags.get(key('1'))).toBeUndefined();
  });

  test('that is pinned is kept when it is gone, and is not confirmed any more', async () => {
    using records = await Records.open();
    const { tags, pins } = records.catalog;
    records.tag('1', digest('one'));
    pins.add(app, '1');
    tags.forget(key('1'));
    expect(tags.get(key('1'))).toMatchObject({ digest: digest('one'), checkedAtMs: 0 });
    const news = records.news.length;
    tags.forget(key('1'));
    expect(records.news).toHaveLength(news);
    pins.remove(app, '1');
    expect(pins.isPinned(app, '1')).toBe(false);
  });

  test('says in its facts that it has changed', async () => {
    using records = await Records.open();
    const { tags } = records.catalog;
    records.changed.length = 0;
    records.tag('1', digest('one'));
    expect(records.changed).toContain(`tag ${app}:1`);
    records.changed.length = 0;
    tags.erase(key('1'));
    expect([records.changed, tags.get(key('1'))]).toEqual([[`tag ${app}:1`], undefined]);
    records.tag('1', digest('one'), { access: 'key' });
    records.tag('1', digest('one'), { variant: 'x' });
    tags.dropAll();
    expect(tags.get(key('1'))).toEqual({
      digest: digest('one'),
      contentType: ociManifest,
      size: 100,
      checkedAtMs: records.nowMs,
      access: 'key',
    });
    records.catalog.together(() => expect(tags.eraseAll(app, '1').toSorted()).toEqual(['', 'x']));
    expect(tags.names(app)).toEqual([]);
  });
});

test('a tag that is confirmed again is noted in the journal once in ten minutes', async () => {
  await using folder = await temporaryDirectory('tags');
  using catalog = await Catalog.open({
    path: join(folder.path, 'catalog.sqlite'),
    now: () => 0,
    onFault: () => undefined,
  });
  const minutesMs = 60_000;
  const confirm = async (checkedAtMs: number, contentType = ociManifest): Promise<number> => {
    catalog.tags.record(key('1'), { digest: digest('image'), contentType, size: 1, checkedAtMs });
    for await (const _ of catalog.names.journal(0));
    return catalog.names.journalBytes;
  };
  const bytes = await confirm(10 * minutesMs);
  expect(bytes).toBeGreaterThan(0);
  expect(await confirm(20 * minutesMs - 1)).toBe(bytes);
  const next = await confirm(20 * minutesMs);
  expect(next).toBeGreaterThan(bytes);
  expect(await confirm(20 * minutesMs, 'application/x')).toBeGreaterThan(next);
});

describe('the removal of an image', () => {
  test('is held by tags that stand for it, or an index that names it, in its repository', async () => {
    using records = await Records.open();
    const { removal, grants } = records.catalog;
    const image = records.manifest('image', {});
    const index = records.manifest('index', { children: [image] });
    records.tag('1', image);
    records.tag('1', image, { variant: 'x' });
    records.tag('2', image, { repository: other });
    expect(removal.holders(image, app)).toEqual([`${app}:1`]);
    expect(removal.holders(index, app)).toEqual([]);
    grants.grant(foreign, image);
    expect(removal.holders(image, foreign)).toEqual([]);
    grants.grant(foreign, index);
    expect(removal.holders(image, foreign)).toEqual([`${foreign}@${index}`]);
    expect([
      removal.roots({ repository: app, reference: '1' }),
      removal.roots({ repository: app, reference: index }),
    ]).toEqual([[image], [index]]);
  });

  test('takes nothing that a tag of the same name in another repository stands for', async () => {
    using records = await Records.open();
    const { removal, tags, blobs } = records.catalog;
    const image = records.manifest('image', { layers: [records.blob('layer')] });
    records.tag('1', image);
    records.tag('1', image, { repository: other });
    expect(removal.forget({ repository: app, reference: '1' })).toEqual([]);
    expect([tags.names(app), tags.names(other), blobs.has(image)]).toEqual([[], ['1'], true]);
  });

  test('takes what no other image needs, whether it is pinned or not', async () => {
    using records = await Records.open();
    const { removal, pins, images } = records.catalog;
    const [own, shared, gone] = [records.blob('own'), records.blob('shared'), digest('gone')];
    const image = records.manifest('image', { layers: [own, shared, gone] });
    records.manifest('beside', { layers: [shared] });
    records.tag('1', image);
    pins.add(app, '1');
    const name = { repository: app, reference: '1' };
    const digests = (parts: readonly { digest: string }[]) => parts.map((part) => part.digest).toSorted();
    expect(digests(removal.unshared(image, name, images.parts(image, app)))).toEqual(sorted(image, own));
    records.tag('2', image);
    expect(removal.unshared(image, name, images.parts(image, app))).toEqual([]);
    records.catalog.tags.forget(key('2'));
    const forgotten = removal.forget(name);
    expect(digests(forgotten)).toEqual(sorted(image, own));
    expect([records.catalog.grants.mayRead(app, own), records.catalog.grants.mayRead(app, shared)]).toEqual([
      false,
      true,
    ]);
    expect([records.catalog.tags.names(app), records.catalog.manifests.has(image)]).toEqual([[], false]);
  });
});

describe('a manifest that comes', () => {
  test('is news for a repository that did not have it', async () => {
    using records = await Records.open();
    const image = records.manifest('image', { layers: [digest('layer')] });
    records.manifest('image', { layers: [digest('layer')] });
    records.manifest('image', { layers: [digest('layer')], repository: other });
    expect(records.news.map(({ kind, repository }) => [kind, repository])).toEqual([
      ['manifest', app],
      ['manifest', other],
    ]);
    expect(records.news[0]).toMatchObject({ digest: image, mediaType: ociManifest, size: 100, subject: undefined });
    const signature = records.manifest('signature', { subject: image });
    expect(records.news.at(-1)).toMatchObject({ digest: signature, subject: image });
    expect(records.catalog.manifests.referrers(app, image)).toEqual([
      { digest: signature, mediaType: ociManifest, size: 100, artifactType: undefined, annotations: undefined },
    ]);
    expect(records.catalog.manifests.referrers(other, image)).toEqual([]);
  });

  test('is shared with another repository that its upstream confirms it in', async () => {
    using records = await Records.open();
    const { manifests, grants } = records.catalog;
    const layer = digest('layer');
    const image = records.manifest('image', { layers: [layer] });
    expect([grants.mayReadAll(app, image), grants.mayReadAll(other, image)]).toEqual([true, false]);
    grants.grant(other, image);
    expect([grants.mayRead(other, image), grants.mayReadAll(other, image)]).toEqual([true, false]);
    await manifests.share(other, image);
    expect([grants.mayReadAll(other, image), grants.mayRead(other, layer), grants.expectedSize(other, layer)]).toEqual([
      true,
      true,
      7,
    ]);
    expect(grants.isReadableWhole(other, image)).toBe(true);
    await manifests.share(foreign, image);
    expect([grants.mayReadAll(foreign, image), grants.isReadableWhole(foreign, image)]).toEqual([true, false]);
    await manifests.share(other, digest('unknown'));
    expect(grants.mayRead(other, digest('unknown'))).toBe(true);
  });
});

describe('what is evicted first', () => {
  test('is what no image needs, then the coldest, and nothing that is pinned', async () => {
    using records = await Records.open();
    const { evictions, pins, uses } = records.catalog;
    const [lone, layer] = [records.blob('lone', { size: 1 }), records.blob('layer', { size: 2 })];
    const image = records.manifest('image', { layers: [layer], size: 3 });
    const coldest = (limit: number) => evictions.coldest(limit);
    expect(coldest(9)[0]).toEqual({ digest: lone, size: 1 });
    expect(coldest(1)).toHaveLength(1);
    expect(
      coldest(9)
        .map((one) => one.digest)
        .toSorted(),
    ).toEqual(sorted(lone, layer, image));
    expect([lone, layer, image].map((one) => evictions.isUnneeded(one))).toEqual([true, false, false]);
    pins.add(app, image);
    expect(coldest(9)).toEqual([{ digest: lone, size: 1 }]);
    expect(evictions.group(layer)).toEqual([]);
    pins.remove(app, image);
    expect(evictions.group(layer).map((one) => one.digest)).toEqual([image, layer]);
    expect(evictions.group(lone)).toEqual([{ digest: lone, size: 1 }]);
    expect(evictions.left(evictions.group(image))).toEqual([{ digest: layer, size: 2 }]);
    uses.touch(lone);
    expect([evictions.isTouched(lone), evictions.isTouched(layer)]).toEqual([true, false]);
    uses.flushAll();
    expect(evictions.isTouched(lone)).toBe(false);
  });

  test('takes an image with as many attachments as there is room for in one go, and the image before them', async () => {
    using records = await Records.open();
    const { evictions } = records.catalog;
    const layer = records.blob('layer', { size: 2 });
    const image = records.manifest('image', { layers: [layer] });
    const attached = Array.from({ length: 40 }, (_, index) =>
      records.manifest(`signature ${index}`, { subject: image }),
    );
    const few = evictions.group(layer).map((one) => one.digest);
    expect([few.length, few[0]]).toEqual([41, image]);
    expect(few.slice(1).toSorted()).toEqual(attached.toSorted());
    for (let index = 40; index < 1010; index += 1) records.manifest(`signature ${index}`, { subject: image });
    const many = evictions.group(layer).map((one) => one.digest);
    expect([many.length, new Set(many).size, many[0]]).toEqual([1000, 1000, image]);
  });

  test('takes with it what was known for its sake alone', async () => {
    using records = await Records.open();
    const { evictions, grants, tags, blobs, manifests } = records.catalog;
    const [layer, shared] = [records.blob('layer'), records.blob('shared')];
    const image = records.manifest('image', { layers: [layer, shared, digest('absent')] });
    records.manifest('beside', { layers: [shared] });
    records.tag('1', image);
    evictions.forget(image);
    expect([tags.get(key('1')), manifests.has(image), blobs.has(image), grants.mayRead(app, image)]).toEqual([
      undefined,
      false,
      false,
      false,
    ]);
    expect([layer, shared, digest('absent')].map((one) => grants.mayRead(app, one))).toEqual([true, true, false]);
    expect(evictions.isUnneeded(layer)).toBe(true);
    evictions.forget(layer);
    expect(grants.mayRead(app, layer)).toBe(false);
    expect(records.catalog.blobs.usage()).toMatchObject({ blobs: 2 });
  });
});
