import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readManifest } from '../../src/oci/descriptor.ts';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { ociManifest } from '../../src/oci/media-types.ts';
import { Catalog } from '../../src/store/catalog/catalog.ts';
import { inMemory } from '../../src/store/catalog/database.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

const repository = 'docker.io/library/app';
const layer = digestOf(Buffer.from('layer'));
const body = Buffer.from(JSON.stringify({ layers: [{ mediaType: 'application/x', digest: layer, size: 5 }] }));
const manifest = digestOf(body);

async function openCatalog(path: string = inMemory): Promise<Catalog> {
  return await Catalog.open({
    path,
    now: () => 5,
    onFault: (error) => {
      throw error;
    },
  });
}

function record(catalog: Catalog, digest: Digest): void {
  const links = readManifest(body, ociManifest);
  catalog.manifests.record(digest, { repository, size: body.length, contentType: ociManifest, links });
}

test('a right that is taken back and confirmed again gives nothing of the parts by itself', async () => {
  using catalog = await openCatalog();
  const other = 'quay.io/other';
  record(catalog, manifest);
  // A tag of the first repository keeps the manifest here.
  const tagged = { digest: manifest, contentType: ociManifest, size: body.length, checkedAtMs: 1 };
  catalog.tags.record({ repository, tag: '1', variant: '' }, tagged);
  await catalog.manifests.share(other, manifest);
  expect(catalog.grants.mayReadAll(other, manifest)).toBe(true);
  catalog.removal.forget({ repository: other, reference: manifest });
  expect(catalog.grants.mayRead(other, manifest)).toBe(false);
  catalog.grants.grant(other, manifest);
  expect(catalog.grants.mayRead(other, manifest)).toBe(true);
  expect(catalog.grants.mayReadAll(other, manifest)).toBe(false);
  expect(catalog.grants.mayRead(other, layer)).toBe(false);
});

test('a size that is learnt while a rebuild runs outlives the rebuild', async () => {
  await using folder = await temporaryDirectory();
  const path = join(folder.path, 'catalog.sqlite');
  {
    using catalog = await openCatalog(path);
    record(catalog, manifest);
    // What the journal has been told of before any manifest gave the size.
    catalog.together(() => catalog.names.restore({ kind: 'grant', repository, digest: layer, size: -1 }));
  }
  using catalog = await openCatalog(path);
  expect(catalog.grants.expectedSize(repository, layer)).toBe(5);
});

test('a right that the journal gives back counts, also where it was just found missing', async () => {
  using catalog = await openCatalog();
  const { grants, names } = catalog;
  expect(grants.mayRead(repository, layer)).toBe(false);
  catalog.together(() => names.restore({ kind: 'grant', repository, digest: layer, size: 5 }));
  expect([grants.mayRead(repository, layer), grants.mayRead('quay.io/other', layer)]).toEqual([true, false]);
});
