import { describe, expect, test } from 'vitest';
import { readManifest } from '../../src/oci/descriptor.ts';
import type { Digest } from '../../src/oci/digest.ts';
import { ociManifest } from '../../src/oci/media-types.ts';
import { partsPerTurn } from '../../src/store/catalog/many-parts.ts';
import { app, digest, foreign, Records } from './records.ts';

const layersOf = (count: number): Digest[] => Array.from({ length: count }, (_, index) => digest(`layer ${index}`));

function manifestOf(layers: readonly Digest[], repository = app) {
  const described = layers.map((layer) => ({ mediaType: 'application/x', digest: layer, size: 7 }));
  const links = readManifest(Buffer.from(JSON.stringify({ layers: described })), ociManifest);
  return { repository, size: 100, contentType: ociManifest, links, source: 'upstream' } as const;
}

/** Whether a process that were killed now would leave parts that the next one has to delete. */
const isNoted = ({ catalog }: Records, manifest: Digest): boolean =>
  catalog.notes.get(`parts of ${manifest}`) !== undefined;

const readable = ({ catalog }: Records, layers: readonly Digest[], repository = app): number =>
  layers.filter((layer) => catalog.grants.mayRead(repository, layer)).length;

const image = digest('image');

describe('a manifest that names more than is written in one turn', () => {
  test('is written in slices before it is recorded, and only if it names more than that', async () => {
    for (const [count, isMany] of [
      [partsPerTurn, false],
      [partsPerTurn + 1, true],
      [2 * partsPerTurn, true],
      [2 * partsPerTurn + 50, true],
    ] as const) {
      using records = await Records.open();
      const { catalog } = records;
      const layers = layersOf(count);
      await catalog.manifests.prepare(image, manifestOf(layers));
      expect([readable(records, layers), isNoted(records, image)]).toEqual(isMany ? [count, true] : [0, false]);
      expect(catalog.parts.isMany(image)).toBe(isMany);
      catalog.manifests.record(image, manifestOf(layers));
      expect([readable(records, layers), isNoted(records, image)]).toEqual([count, false]);
      expect(catalog.parts.isMany(image)).toBe(isMany);
      expect(catalog.images.parts(image, app)).toHaveLength(count + 1);
    }
  });

  test('names each part once, however often it lists it', async () => {
    using records = await Records.open();
    const layers = layersOf(150);
    await records.catalog.manifests.prepare(image, manifestOf([...layers, ...layers]));
    expect([readable(records, layers), isNoted(records, image)]).toEqual([0, false]);
    records.catalog.manifests.record(image, manifestOf([...layers, ...layers]));
    expect(records.catalog.images.parts(image, app)).toHaveLength(151);
  });

  test('is not prepared a second time while its repository has all of it', async () => {
    using records = await Records.open();
    const { catalog } = records;
    const layers = layersOf(250);
    const record = async (repository = app): Promise<void> => {
      await catalog.manifests.prepare(image, manifestOf(layers, repository));
      catalog.manifests.record(image, manifestOf(layers, repository));
    };
    await record();
    await catalog.manifests.prepare(image, manifestOf(layers));
    expect(isNoted(records, image)).toBe(false);
    await record(foreign);
    expect(readable(records, layers, foreign)).toBe(250);
    catalog.manifests.record(image, manifestOf(layers));
    expect(readable(records, layers)).toBe(250);
  });

  test('is whole without any preparation, too', async () => {
    using records = await Records.open();
    const layers = layersOf(250);
    records.catalog.manifests.record(image, manifestOf(layers));
    expect([readable(records, layers), isNoted(records, image)]).toEqual([250, false]);
    expect(records.catalog.images.parts(image, app)).toHaveLength(251);
  });

  test('gives a second repository the right to all of it, and to what is named elsewhere none', async () => {
    for (const count of [50, partsPerTurn, partsPerTurn + 1, 2 * partsPerTurn, 450]) {
      using records = await Records.open();
      const { catalog } = records;
      const layers = layersOf(count);
      catalog.manifests.record(image, manifestOf(layers));
      await catalog.manifests.share(foreign, image);
      expect([readable(records, layers, foreign), isNoted(records, image)]).toEqual([count, false]);
      expect(catalog.grants.mayReadAll(foreign, image)).toBe(true);
    }
  });

  test('loses its rights after it has gone, but not those that another manifest gives', async () => {
    using records = await Records.open();
    const { catalog } = records;
    const layers = layersOf(450);
    catalog.manifests.record(image, manifestOf(layers));
    await catalog.manifests.share(foreign, image);
    records.manifest('small', { layers: layers.slice(10, 13) });
    catalog.evictions.forget(image);
    expect(catalog.manifests.has(image)).toBe(false);
    expect(isNoted(records, image)).toBe(true);
    await catalog.parts.settled();
    expect([readable(records, layers), readable(records, layers.slice(13), foreign)]).toEqual([3, 0]);
    expect([isNoted(records, image), catalog.parts.isMany(image)]).toEqual([false, false]);
    // A second one goes the same way.
    const second = digest('second');
    catalog.manifests.record(second, manifestOf(layers));
    catalog.evictions.forget(second);
    await catalog.parts.settled();
    expect([readable(records, layers), isNoted(records, second)]).toEqual([3, false]);
  });

  test('that comes back while its parts are deleted stays whole', async () => {
    using records = await Records.open();
    const { catalog } = records;
    const layers = layersOf(250);
    catalog.manifests.record(image, manifestOf(layers));
    catalog.evictions.forget(image);
    catalog.manifests.record(image, manifestOf(layers));
    await catalog.parts.settled();
    expect([readable(records, layers), catalog.parts.isMany(image)]).toEqual([250, true]);
    catalog.evictions.forget(image);
    await catalog.manifests.prepare(image, manifestOf(layers));
    await catalog.parts.settled();
    catalog.manifests.record(image, manifestOf(layers));
    expect([readable(records, layers), catalog.parts.isMany(image)]).toEqual([250, true]);
  });

  test('is written in full when something was deleted after its preparation', async () => {
    using records = await Records.open();
    const { catalog } = records;
    const layers = layersOf(250);
    const small = records.manifest('small', { layers: layers.slice(0, 3) });
    await catalog.manifests.prepare(image, manifestOf(layers));
    catalog.evictions.forget(small);
    catalog.removal.forget({ repository: app, reference: small });
    catalog.manifests.record(image, manifestOf(layers));
    expect([readable(records, layers), catalog.images.parts(image, app).length]).toEqual([250, 251]);
  });

  test('leaves a note when the process ends, by which the next one deletes what was written', async () => {
    using records = await Records.open();
    const { catalog } = records;
    const layers = layersOf(450);
    const writing = catalog.manifests.prepare(image, manifestOf(layers));
    catalog.parts[Symbol.dispose]();
    await writing;
    expect(isNoted(records, image)).toBe(true);
    expect(readable(records, layers)).toBe(partsPerTurn);
    catalog.manifests.record(image, manifestOf(layers));
    expect([readable(records, layers), isNoted(records, image)]).toEqual([450, false]);
  });
});
