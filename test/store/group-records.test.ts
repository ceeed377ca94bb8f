import { describe, expect, test } from 'vitest';
import type { Digest } from '../../src/oci/digest.ts';
import { heatAfter, rememberedEvictions } from '../../src/store/eviction-policy.ts';
import { app, digest, other, Records } from './records.ts';

const digestsOf = (blobs: readonly { readonly digest: Digest }[]): Digest[] => blobs.map((one) => one.digest);

/** Uses of a blob alone, or of an image, that are written at once. */
function use({ catalog }: Records, blob: Digest, times = 1): void {
  for (let time = 0; time < times; time += 1) catalog.uses.touch(blob);
  while (catalog.uses.flush());
}

describe('the blobs that go with an evicted one', () => {
  test('are the manifests that need a layer, the coldest first, where these are no more than 31', async () => {
    using records = await Records.open();
    const { evictions } = records.catalog;
    const layer = records.blob('layer');
    const images = Array.from({ length: 31 }, (_, index) => records.manifest(`image ${index}`, { layers: [layer] }));
    const group = digestsOf(evictions.group(layer));
    expect([group.length, group.at(-1), new Set(group)]).toEqual([32, layer, new Set([...images, layer])]);
    const cold = records.manifest('image 31', { layers: [layer] });
    for (const image of images) use(records, image);
    // There are too many by now: the coldest goes alone.
    expect(digestsOf(evictions.group(layer))).toEqual([cold]);
  });

  test('are a manifest before its attachments, and an index before the last of its images', async () => {
    using records = await Records.open();
    const { evictions } = records.catalog;
    const [one, two] = [records.manifest('one', {}), records.manifest('two', {})];
    const index = records.manifest('index', { children: [one, two] });
    const signature = records.manifest('signature', { subject: index });
    expect(digestsOf(evictions.group(one))).toEqual([one]);
    records.catalog.evictions.forget(one);
    expect(digestsOf(evictions.group(two))).toEqual([index, two, signature]);
    expect(digestsOf(evictions.group(signature))).toEqual([index, signature]);
    // Attached to something else as well, it stays with that.
    const kept = records.manifest('kept', {});
    records.tag(`${kept.replace(':', '-')}.sig`, signature);
    expect(digestsOf(evictions.group(two))).toEqual([index, two]);
  });

  test('are none where one of them is pinned, and not what is pinned of the attachments', async () => {
    using records = await Records.open();
    const { evictions, pins } = records.catalog;
    const layer = records.blob('layer');
    const image = records.manifest('image', { layers: [layer] });
    const signature = records.manifest('signature', { subject: image });
    records.tag('sig', signature);
    pins.add(app, 'sig');
    expect(digestsOf(evictions.group(image))).not.toContain(signature);
    records.tag('1', image);
    pins.add(app, '1');
    expect([evictions.group(layer), evictions.group(image)]).toEqual([[], []]);
    expect(evictions.group(digest('unknown'))).toEqual([]);
  });
});

describe('the blobs that nothing needs once a group is gone', () => {
  test('are its layers and config, but not those of other images, pinned ones, or much warmer ones', async () => {
    using records = await Records.open();
    const { evictions, pins } = records.catalog;
    const names = ['own', 'shared', 'warm', 'pinned', 'second'];
    const [own, shared, warm, pinned, second] = names.map((name) => records.blob(name)) as [
      Digest,
      Digest,
      Digest,
      Digest,
      Digest,
    ];
    const image = records.manifest('image', { layers: [own, shared, warm, pinned] });
    const next = records.manifest('next', { layers: [second], repository: other });
    records.manifest('other', { layers: [shared] });
    const holder = records.manifest('holder', { layers: [pinned] });
    records.tag('holder', holder);
    pins.add(app, 'holder');
    // Another image has made it warm, and is gone.
    const hot = records.manifest('hot', { layers: [warm] });
    use(records, hot, 20);
    evictions.forget(hot);
    const left = (...group: Digest[]): Digest[] =>
      digestsOf(evictions.left(group.map((one) => ({ digest: one, size: 1 })))).toSorted();
    expect(left(image)).toEqual([own]);
    expect(left(image, next)).toEqual([own, second].toSorted());
    // One that goes anyway is not left.
    expect(left(image, next, own)).toEqual([second]);
    expect(evictions.left([{ digest: next, size: 1 }])).toEqual([{ digest: second, size: 10 }]);
  });

  test('are two hundred at most', async () => {
    using records = await Records.open();
    const { evictions } = records.catalog;
    const groups = ['one', 'two'].map((name) => {
      const layers = Array.from({ length: 150 }, (_, index) => records.blob(`${name} ${index}`));
      return { digest: records.manifest(name, { layers }), size: 1 };
    });
    expect(evictions.left(groups.slice(0, 1))).toHaveLength(150);
    expect(evictions.left(groups)).toHaveLength(200);
  });
});

describe('the order of eviction', () => {
  test('begins with what nothing needs, however warm, and then comes to the coldest', async () => {
    using records = await Records.open();
    const { evictions } = records.catalog;
    const [warm, cold] = [records.manifest('warm', {}), records.manifest('cold', {})];
    const stray = records.blob('stray', { size: 1 });
    use(records, warm, 3);
    use(records, stray, 9);
    // It was used last, and is a tenth of all bytes.
    records.nowMs += 60_000;
    const recent = records.manifest('recent', { size: 20 });
    expect(evictions.coldest(1)).toEqual([{ digest: stray, size: 1 }]);
    expect([evictions.isUnneeded(stray), evictions.isUnneeded(warm)]).toEqual([true, false]);
    expect(digestsOf(evictions.coldest(2))).toEqual([stray, cold]);
    expect(digestsOf(evictions.coldest(9))).toEqual([stray, cold, warm, recent]);
  });

  test('remembers the heat of evicted blobs for their return', async () => {
    using records = await Records.open();
    const { evictions, blobs } = records.catalog;
    const layer = records.blob('layer');
    use(records, layer, 7);
    evictions.forget(layer);
    expect([blobs.has(layer), rememberedEvictions > 1]).toEqual([false, true]);
    records.blob('other');
    records.blob('layer');
    const [first, second] = digestsOf(evictions.coldest(2));
    expect([first, second]).toEqual([digest('other'), layer]);
    expect(heatAfter(undefined, 8, 0)).toBeGreaterThan(heatAfter(undefined, 1, 0));
  });
});

test('a large image is used whole, in several turns, with what is attached to it', async () => {
  using records = await Records.open();
  const { evictions } = records.catalog;
  const layers = Array.from({ length: 450 }, (_, index) => records.blob(`layer ${index}`));
  const large = records.manifest('large', { layers });
  const signature = records.manifest('signature', { subject: large });
  const small = records.manifest('small', { layers: [records.blob('one')] });
  records.nowMs += 1_000;
  use(records, large, 5);
  records.nowMs += 1_000;
  const order = digestsOf(evictions.coldest(1_000));
  for (const one of [large, signature, ...layers]) expect(order.indexOf(one)).toBeGreaterThan(order.indexOf(small));
});
