import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readManifest } from '../../src/oci/descriptor.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { ociIndex, ociManifest } from '../../src/oci/media-types.ts';
import { Catalog } from '../../src/store/catalog/catalog.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

const config = digestOf(Buffer.from('config'));
const layer = digestOf(Buffer.from('layer'));
const body = Buffer.from(
  JSON.stringify({
    config: { mediaType: 'application/x.config', digest: config, size: 6 },
    layers: [{ mediaType: 'application/x.layer', digest: layer, size: 5 }],
    subject: { mediaType: ociManifest, digest: digestOf(Buffer.from('subject')), size: 7 },
    annotations: { key: 'value' },
  }),
);
const manifest = digestOf(body);
const key = { repository: 'docker.io/library/app', tag: '1', variant: '' };
const record = { digest: manifest, contentType: ociManifest, size: body.length, checkedAtMs: 1000 };

async function openIn(path: string, faults: unknown[] = []): Promise<Catalog> {
  return await Catalog.open({
    path: join(path, 'catalog.sqlite'),
    now: () => 5,
    onFault: (error) => faults.push(error),
  });
}

describe('the catalog', () => {
  test('knows after a restart what was recorded before', async () => {
    await using folder = await temporaryDirectory();
    {
      using catalog = await openIn(folder.path);
      catalog.tags.record(key, record);
      catalog.tags.record({ ...key, variant: 'x' }, { ...record, digest: layer });
      catalog.manifests.record(manifest, {
        repository: key.repository,
        size: body.length,
        contentType: ociManifest,
        links: readManifest(body, ociManifest),
      });
      catalog.blobs.record(layer, { size: 5, contentType: 'application/octet-stream' });
      catalog.grants.grant('quay.io/other', config);
    }
    using catalog = await openIn(folder.path);
    expect(catalog.tags.get(key)).toMatchObject(record);
    expect(catalog.tags.get({ ...key, variant: 'x' })?.digest).toBe(layer);
    expect(catalog.tags.get({ ...key, repository: 'quay.io/library/app' })).toBeUndefined();
    expect(catalog.tags.names(key.repository)).toEqual(['1']);
    expect(catalog.manifests.has(manifest)).toBe(true);
    expect(catalog.manifests.has(layer)).toBe(false);
    expect(catalog.blobs.get(layer)).toEqual({ size: 5, contentType: 'application/octet-stream' });
    expect(catalog.grants.mayRead(key.repository, layer)).toBe(true);
    expect(catalog.grants.expectedSize(key.repository, layer)).toBe(5);
    expect(catalog.grants.mayRead('quay.io/other', layer)).toBe(false);
    expect(catalog.grants.mayRead('quay.io/other', config)).toBe(true);
    expect(catalog.grants.expectedSize('quay.io/other', config)).toBeUndefined();
    expect(catalog.manifests.referrers(key.repository, digestOf(Buffer.from('subject')))).toMatchObject([
      { digest: manifest, artifactType: 'application/x.config', annotations: { key: 'value' } },
    ]);
    expect(catalog.manifests.referrers('quay.io/other', digestOf(Buffer.from('subject')))).toEqual([]);
  });

  test('gives a repository all that a manifest names when that is confirmed there, and not when it is only named', async () => {
    await using folder = await temporaryDirectory();
    const other = 'quay.io/other';
    const store = (catalog: Catalog): void => {
      catalog.manifests.record(manifest, {
        repository: key.repository,
        size: body.length,
        contentType: ociManifest,
        links: readManifest(body, ociManifest),
      });
      catalog.blobs.record(layer, { size: 5, contentType: 'application/octet-stream' });
    };
    const rights = (catalog: Catalog) => [
      catalog.grants.mayRead(other, manifest),
      catalog.grants.mayReadAll(other, manifest),
      catalog.grants.mayRead(other, layer),
    ];
    {
      using catalog = await openIn(folder.path);
      const index = Buffer.from(JSON.stringify({ manifests: [{ mediaType: ociManifest, digest: manifest, size: 1 }] }));
      catalog.manifests.record(digestOf(index), {
        repository: other,
        size: index.length,
        contentType: ociIndex,
        links: readManifest(index, ociIndex),
      });
      store(catalog);
      expect(rights(catalog)).toEqual([true, false, false]);
      await catalog.manifests.share(other, manifest);
      expect(rights(catalog)).toEqual([true, true, true]);
      expect(catalog.grants.expectedSize(other, layer)).toBe(5);
      // What was said of it has gone with it, and it comes back through the first repository alone.
      for (const digest of [manifest, layer]) catalog.evictions.forget(digest);
      store(catalog);
      expect(rights(catalog)).toEqual([true, false, false]);
      await catalog.manifests.share(other, manifest);
    }
    using catalog = await openIn(folder.path);
    expect(rights(catalog)).toEqual([true, true, true]);
  });

  test('forgets a tag and a blob in memory and on disk', async () => {
    await using folder = await temporaryDirectory();
    {
      using catalog = await openIn(folder.path);
      catalog.tags.record(key, record);
      catalog.blobs.record(layer, { size: 5, contentType: 'x' });
      catalog.tags.forget(key);
      catalog.blobs.forget(layer);
      expect([catalog.tags.get(key), catalog.blobs.get(layer)]).toEqual([undefined, undefined]);
    }
    using catalog = await openIn(folder.path);
    expect([catalog.tags.get(key), catalog.blobs.get(layer)]).toEqual([undefined, undefined]);
    // The tag has moved on; what it meant may still be read by its digest.
    expect(catalog.grants.mayRead(key.repository, manifest)).toBe(true);
  });

  test('goes on from memory when the database fails, and says so', async () => {
    await using folder = await temporaryDirectory();
    const faults: unknown[] = [];
    const catalog = await openIn(folder.path, faults);
    catalog[Symbol.dispose]();
    expect(faults).toEqual([]);
    catalog.tags.record(key, record);
    expect(catalog.tags.get(key)).toMatchObject(record);
    expect(catalog.grants.mayRead(key.repository, manifest)).toBe(true);
    expect(catalog.tags.get({ ...key, tag: 'other' })).toBeUndefined();
    expect(faults.length).toBeGreaterThan(0);
  });

  test('is refused to a second owner, also in the same process', async () => {
    await using folder = await temporaryDirectory();
    using first = await openIn(folder.path);
    await expect(openIn(folder.path)).rejects.toThrow('one cache directory has one owner');
    expect(first.tags.names('any')).toEqual([]);
  });
});

test('an archive has delivered what is recorded of it, and no other archive has', async () => {
  using catalog = await Catalog.open({
    path: ':memory:',
    now: Date.now,
    onFault: (error) => expect.fail(String(error)),
  });
  const [archive, other, blob] = ['archive', 'other', 'blob'].map((text) => digestOf(Buffer.from(text)));
  catalog.deliveries.record(archive!, [blob!]);
  catalog.deliveries.record(archive!, [blob!]);
  expect([catalog.deliveries.has(archive!, blob!), catalog.deliveries.has(other!, blob!)]).toEqual([true, false]);
});
