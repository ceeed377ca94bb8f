import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { readManifest } from '../../src/oci/descriptor.ts';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { ociManifest, octetStream } from '../../src/oci/media-types.ts';
import { Catalog } from '../../src/store/catalog/catalog.ts';
import { partsPerTurn } from '../../src/store/catalog/many-parts.ts';
import { RowsPerTurn } from '../support/rows-per-turn.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

const repository = 'docker.io/library/large';
const layers = Array.from({ length: 5000 }, (_, index) => digestOf(Buffer.from(`layer ${index}`)));
const body = Buffer.from(
  JSON.stringify({
    schemaVersion: 2,
    mediaType: ociManifest,
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest: layers[0], size: 7 },
    layers: layers.slice(1).map((digest) => ({ mediaType: 'application/vnd.oci.image.layer.v1.tar', digest, size: 7 })),
  }),
);
const large = digestOf(body);
const links = readManifest(body, ociManifest);
const manifest = { repository, source: 'upstream', size: body.length, contentType: ociManifest, links } as const;

/** Of each part of a slice, a few rows are read and written: its link, its right, its blob. */
const mostRows = 10 * partsPerTurn;

async function open(path: string): Promise<Catalog> {
  return await Catalog.open({
    path: join(path, 'catalog.sqlite'),
    now: () => 1_700_000_000_000,
    onFault: (error) => {
      throw error;
    },
  });
}

function rowsIn(path: string, table: 'links' | 'grants' | 'manifests' | 'notes'): number {
  using database = new DatabaseSync(join(path, 'catalog.sqlite'), { readOnly: true });
  const where = table === 'notes' ? ` WHERE name LIKE 'parts of %'` : '';
  return Number(database.prepare(`SELECT COUNT(*) AS n FROM ${table}${where}`).get()?.['n']);
}

async function record(catalog: Catalog, within = repository): Promise<void> {
  await catalog.manifests.prepare(large, { ...manifest, repository: within });
  catalog.manifests.record(large, { ...manifest, repository: within });
}

async function flushUses(catalog: Catalog): Promise<void> {
  while (catalog.uses.flush()) await nextTurn();
}

function readable(catalog: Catalog, within = repository): number {
  return layers.filter((digest) => catalog.grants.mayRead(within, digest)).length;
}

describe('a manifest with thousands of layers', () => {
  test('is recorded, used, shared and evicted with bounded rows per turn', async () => {
    await using folder = await temporaryDirectory();
    using catalog = await open(folder.path);
    for (const digest of layers) {
      catalog.blobs.record(digest, { size: 7, contentType: octetStream, shownBy: 'docker.io' });
    }
    await flushUses(catalog);
    using rows = new RowsPerTurn();
    await record(catalog);
    await nextTurn();
    await flushUses(catalog);
    expect(rows.most).toBeGreaterThan(partsPerTurn);
    expect(rows.most).toBeLessThan(mostRows);
    await catalog.manifests.share('quay.io/other', large);
    catalog.uses.touch(large);
    await flushUses(catalog);
    expect(rows.most).toBeLessThan(mostRows);
    for (const digest of layers.slice(0, 2000)) {
      catalog.blobs.forget(digest);
      if (digest.endsWith('0')) await nextTurn();
    }
    catalog.evictions.forget(large);
    await catalog.parts.settled();
    expect(rows.most).toBeLessThan(mostRows);
  });

  test('is listed, pinned and unpinned without a look at each of the layers that are not stored', async () => {
    await using folder = await temporaryDirectory();
    using catalog = await open(folder.path);
    await record(catalog);
    catalog.blobs.record(large, { size: body.length, contentType: ociManifest, shownBy: 'docker.io' });
    for (const digest of layers.slice(0, 3)) {
      catalog.blobs.record(digest, { size: 7, contentType: octetStream, shownBy: 'docker.io' });
    }
    const name = { repository, reference: large };
    await nextTurn();
    using rows = new RowsPerTurn();
    const stored = catalog.images.storedParts(large, repository);
    expect(stored.map(({ digest }) => digest).toSorted()).toEqual([large, ...layers.slice(0, 3)].toSorted());
    expect(catalog.removal.unshared(large, name, stored)).toHaveLength(4);
    expect(catalog.removal.own(large, name, { tags: new Set(), manifests: new Set() })).toHaveLength(4);
    catalog.pins.add(repository, large);
    expect(catalog.blobs.usage().pinnedBytes).toBe(body.length + 21);
    catalog.pins.remove(repository, large);
    expect(catalog.blobs.usage().pinnedBytes).toBe(0);
    await nextTurn();
    expect(rows.most).toBeLessThan(200);
  });

  test('is whole, with all rights and one more use of each layer, once it is recorded', async () => {
    await using folder = await temporaryDirectory();
    using catalog = await open(folder.path);
    await record(catalog);
    expect(readable(catalog)).toBe(layers.length);
    expect(catalog.grants.expectedSize(repository, layers[4999]!)).toBe(7);
    expect(catalog.grants.mayReadAll(repository, large)).toBe(true);
    await catalog.manifests.share('quay.io/other', large);
    expect(readable(catalog, 'quay.io/other')).toBe(layers.length);
    expect(catalog.images.parts(large, repository)).toHaveLength(layers.length + 1);
    catalog.together(() => undefined);
    expect(rowsIn(folder.path, 'notes')).toBe(0);
  });

  test('is not visible before all that it names is written, nor after a crash in between', async () => {
    await using folder = await temporaryDirectory();
    {
      using catalog = await open(folder.path);
      const isWritten = catalog.manifests.prepare(large, manifest);
      await nextTurn();
      await nextTurn();
      catalog.together(() => undefined);
      expect(rowsIn(folder.path, 'links')).toBeGreaterThan(0);
      expect(rowsIn(folder.path, 'links')).toBeLessThan(layers.length);
      expect(rowsIn(folder.path, 'manifests')).toBe(0);
      expect(catalog.manifests.has(large)).toBe(false);
      // Closed in the middle: what follows of it writes nothing.
      catalog.parts[Symbol.dispose]();
      await isWritten;
    }
    using again = await open(folder.path);
    await again.parts.settled();
    again.together(() => undefined);
    expect([rowsIn(folder.path, 'links'), rowsIn(folder.path, 'grants'), rowsIn(folder.path, 'notes')]).toEqual([
      0, 0, 0,
    ]);
  });

  test('is gone at once when it is evicted, and its rights soon after, also after a crash', async () => {
    await using folder = await temporaryDirectory();
    {
      using catalog = await open(folder.path);
      await record(catalog);
      catalog.evictions.forget(large);
      expect(catalog.manifests.has(large)).toBe(false);
      expect(catalog.grants.mayRead(repository, large)).toBe(false);
      await nextTurn();
      await nextTurn();
    }
    expect(rowsIn(folder.path, 'links')).toBeGreaterThan(0);
    using again = await open(folder.path);
    await again.parts.settled();
    expect(readable(again)).toBe(0);
    expect(rowsIn(folder.path, 'links')).toBe(0);
    expect(rowsIn(folder.path, 'grants')).toBe(0);
  });

  test('stays whole if it comes back while what it named is being deleted', async () => {
    await using folder = await temporaryDirectory();
    using catalog = await open(folder.path);
    await record(catalog);
    catalog.evictions.forget(large);
    await nextTurn();
    await nextTurn();
    await record(catalog);
    await catalog.parts.settled();
    expect(readable(catalog)).toBe(layers.length);
    catalog.together(() => undefined);
    expect(rowsIn(folder.path, 'links')).toBe(layers.length);
  });

  test('is whole although an image with some of its layers is removed while it is written', async () => {
    await using folder = await temporaryDirectory();
    using catalog = await open(folder.path);
    const small = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: ociManifest, layers: [links.blobs[1]] }));
    const other: Digest = digestOf(small);
    const smallLinks = readManifest(small, ociManifest);
    catalog.manifests.record(other, { ...manifest, size: small.length, links: smallLinks });
    const isWritten = catalog.manifests.prepare(large, manifest);
    await nextTurn();
    catalog.removal.forget({ repository, reference: other });
    await isWritten;
    catalog.manifests.record(large, manifest);
    expect(readable(catalog)).toBe(layers.length);
  });
});
