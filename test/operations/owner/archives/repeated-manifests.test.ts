import { describe, expect, test } from 'vitest';
import { Completeness } from '../../../../src/mirror/completeness.ts';
import { KeptManifests } from '../../../../src/mirror/kept-manifests.ts';
import { readManifest } from '../../../../src/oci/descriptor.ts';
import { ociIndex } from '../../../../src/oci/media-types.ts';
import { ExportPlanner } from '../../../../src/operations/owner/archives/export-plan.ts';
import { CachedShelf } from '../../../../src/operations/owner/archives/image-shelf.ts';
import { wholeImage } from '../../../../src/operations/owner/archives/whole-image.ts';
import { Inventory } from '../../../../src/operations/owner/explain/inventory.ts';
import { Catalog } from '../../../../src/store/catalog/catalog.ts';
import type { BlobStore } from '../../../../src/store/files/blob-store.ts';
import { DiskStore } from '../../../../src/store/files/disk-store.ts';
import { layoutOf, prepareLayout } from '../../../../src/store/files/layout.ts';
import { type LocalBlob, type LocalManifest, localBlob, localImage } from '../../../support/images.ts';
import { temporaryDirectory } from '../../../support/temporary-directory.ts';

const repository = 'docker.io/library/nested';
const times = 100;
const { signal } = new AbortController();

/** An index that names one manifest again and again. */
function repeated({ mediaType, digest, size }: LocalBlob): LocalBlob {
  const manifests = Array.from({ length: times }, () => ({ mediaType, digest, size }));
  return localBlob(JSON.stringify({ schemaVersion: 2, mediaType: ociIndex, manifests }), ociIndex);
}

/** A cache that holds an image as deep as indexes may be nested, each level naming the next one many times. */
async function cacheOf(image: LocalManifest, { lacksLayer }: { lacksLayer: boolean }) {
  await using owned = new AsyncDisposableStack();
  const folder = owned.use(await temporaryDirectory('repeated'));
  const layout = layoutOf(folder.path);
  await prepareLayout(layout);
  const onFault = (error: unknown): never => {
    throw error;
  };
  const catalog = owned.use(await Catalog.open({ path: layout.catalog, now: Date.now, onFault }));
  const disk = new DiskStore({ layout, memoryBytes: 1_000_000 });
  const levels = [image, repeated(image)];
  while (levels.length < 5) levels.push(repeated(levels.at(-1)!));
  for (const { digest, bytes, size, mediaType } of levels) {
    await disk.put(digest, bytes);
    const links = readManifest(bytes, mediaType);
    catalog.manifests.record(digest, { repository, size, contentType: mediaType, links });
  }
  for (const { digest, bytes } of image.blobs.slice(lacksLayer ? 1 : 0)) await disk.put(digest, bytes);
  let looks = 0;
  const store: BlobStore = new Proxy(disk, {
    get(target, name: keyof DiskStore) {
      if (name === 'open' || name === 'read') looks += 1;
      const found = target[name];
      return typeof found === 'function' ? found.bind(target) : found;
    },
  });
  const kept = new KeptManifests({ store, catalog, report: onFault });
  const completeness = new Completeness({ store, catalog, kept });
  const rest = owned.move();
  return {
    catalog,
    store,
    completeness,
    inventory: new Inventory({ kept, catalog, completeness }),
    kept,
    outer: levels.at(-1)!,
    /** How often the store has been asked for anything since the last time. */
    looks() {
      const counted = looks;
      looks = 0;
      return counted;
    },
    [Symbol.asyncDispose]: () => rest.disposeAsync(),
  };
}

describe.each([
  ['whole', false],
  ['not whole', true],
])('an image that is %s and whose indexes name the same again and again is looked at once', (_, lacksLayer) => {
  const image = localImage({ label: 'nested' });

  test('by a client that no upstream could help, and by explain', async () => {
    await using cache = await cacheOf(image, { lacksLayer });
    const { completeness, kept, outer, inventory } = cache;
    expect(await completeness.isWhole(repository, outer)).toBe(!lacksLayer);
    expect(cache.looks()).toBeLessThan(30);
    const { value: missing } = await completeness.missing(repository, (await kept.peek(outer.digest))!).next();
    expect(missing === undefined).toBe(!lacksLayer);
    expect(cache.looks()).toBeLessThan(30);
    expect(await inventory.image(repository, outer.digest)).toMatchObject({ whole: !lacksLayer });
    expect(cache.looks()).toBeLessThan(60);
  });

  test('by an import', async () => {
    await using cache = await cacheOf(image, { lacksLayer });
    const { store, outer } = cache;
    const looked = wholeImage(outer, { name: 'nested:1', store, signal });
    if (lacksLayer) await expect(looked).rejects.toThrow('nested:1 is not whole: it lacks');
    else expect((await looked).manifests.map(({ digest }) => digest)).toHaveLength(5);
    expect(cache.looks()).toBeLessThan(30);
  });

  test('by an export', async () => {
    await using cache = await cacheOf(image, { lacksLayer });
    const { store, catalog, outer } = cache;
    const name = `${repository}@${outer.digest}`;
    const resolve = () => ({ repository, tag: undefined, digest: outer.digest, name });
    const planner = new ExportPlanner({ shelf: new CachedShelf({ store, catalog }), resolve });
    const choice = { platforms: [], referrers: false, nondistributable: false };
    const planned = planner.images({ image: name, tags: undefined, limit: undefined }, choice);
    if (lacksLayer) await expect(planned.next()).rejects.toThrow('is not whole in the cache');
    else {
      const found = { digest: outer.digest, manifests: { length: 5 } };
      expect((await planned.next()).value).toMatchObject({ kind: 'image', image: found });
    }
    expect(cache.looks()).toBeLessThan(60);
  });
});

test('an abandoned import ends between two manifests', async () => {
  await using cache = await cacheOf(localImage({ label: 'nested' }), { lacksLayer: false });
  const { store, outer } = cache;
  const looked = wholeImage(outer, { name: 'nested:1', store, signal: AbortSignal.abort(new Error('enough')) });
  await expect(looked).rejects.toThrow('enough');
  expect(cache.looks()).toBe(0);
});
