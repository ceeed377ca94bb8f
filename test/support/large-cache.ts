import { statSync, writeFileSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { readManifest } from '../../src/oci/descriptor.ts';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { ociManifest, octetStream } from '../../src/oci/media-types.ts';
import { Catalog } from '../../src/store/catalog/catalog.ts';
import { heatAfter } from '../../src/store/eviction-policy.ts';
import { type Layout, layoutOf, prepareLayout } from '../../src/store/files/layout.ts';

export interface LargeCacheOptions {
  readonly directory: string;
  /** Manifests among them, one in ten. */
  readonly blobs: number;
  /** Bytes of the blobs of the hot images; all others are tiny. */
  readonly hotSizes: readonly number[];
  readonly hotImages: number;
}

/** A cache as a mirror would have made it. */
export interface LargeCache {
  /** Paths that a client may ask for, of the images that every such cache has. */
  readonly hot: readonly string[];
  /** The same of any other blob. */
  readonly cold: (index: number) => string;
  readonly coldBlobs: number;
}

const blobsPerImage = 9;
/** Has shown that it has all of it. */
const upstream = 'docker.io';
/** Images that go into the catalog in one go. */
const imagesAtOnce = 500;
const hotRepository = 'library/hot';
const coldRepository = 'library/cold';

/** Makes a cache of many blobs, files and rows, without any upstream. @param onProgress told how many there are */
export async function makeLargeCache(
  { directory, blobs, hotSizes, hotImages }: LargeCacheOptions,
  onProgress: (blobs: number) => void = () => undefined,
): Promise<LargeCache> {
  const layout = layoutOf(directory);
  await prepareLayout(layout);
  const catalog = await Catalog.open({
    path: layout.catalog,
    now: Date.now,
    onFault: (error) => {
      throw error;
    },
  });
  const hot: string[] = [];
  catalog.together(() => {
    for (let image = 0; image < hotImages; image += 1) {
      const contents = hotSizes.map((size, layer) => seeded(`hot ${image} ${layer}`, size));
      const { manifest, layers } = storeImage(layout, catalog, {
        repository: hotRepository,
        tag: `v${image}`,
        contents,
      });
      hot.push(pathOf(hotRepository, 'manifests', manifest));
      hot.push(...layers.map((digest) => pathOf(hotRepository, 'blobs', digest)));
    }
  });
  const images = Math.floor(blobs / (blobsPerImage + 1));
  // As it is found when it was stopped well: nothing is being rebuilt.
  catalog.notes.remove('rebuild');
  catalog.names.noteWhole();
  catalog[Symbol.dispose]();
  storeManyImages(layout, images, onProgress);
  return {
    hot,
    coldBlobs: images * blobsPerImage,
    cold: (index) => pathOf(coldRepository, 'blobs', digestOf(coldContent(index))),
  };
}

/** As {@link storeImage} for each, straight into the tables: through the catalog a million takes half an hour. */
function storeManyImages(layout: Layout, images: number, onProgress: (blobs: number) => void): void {
  using database = new DatabaseSync(layout.catalog);
  database.function('heat_after', () => 0);
  database.exec('PRAGMA synchronous = OFF');
  const repository = `INSERT INTO repositories (name) VALUES ('docker.io/${coldRepository}') RETURNING id`;
  const repositoryId = Number(database.prepare(repository).get()?.['id']);
  const insert = (table: string, ...columns: string[]) => {
    const values = columns.map(() => '?').join(', ');
    return database.prepare(`INSERT INTO ${table} (${columns.join(', ')}) VALUES (${values})`);
  };
  const blob = insert('blobs', 'digest', 'size', 'content_type', 'stored_at', 'used_at', 'heat', 'shown');
  const manifestRow = insert('manifests', 'digest', 'media_type');
  const link = insert('links', 'manifest', 'target', 'kind', 'size');
  const grant = insert('grants', 'repository', 'digest', 'size');
  const tag = insert('tags', 'repository', 'tag', 'variant', 'digest', 'content_type', 'size', 'checked_at');
  const now = Date.now();
  for (let image = 0; image < images; image += 1) {
    if (image % imagesAtOnce === 0) database.exec(image === 0 ? 'BEGIN' : 'COMMIT; BEGIN');
    const layers = Array.from({ length: blobsPerImage }, (_, layer) => {
      const content = coldContent(image * blobsPerImage + layer);
      const digest = digestOf(content);
      writeFileSync(layout.blob(digest), content);
      blob.run(digest, content.length, octetStream, now, now, heatAfter(undefined, 1, now) - Math.random(), upstream);
      return { digest, size: content.length };
    });
    const { body, manifest } = manifestOf(layers);
    writeFileSync(layout.blob(manifest), body);
    blob.run(manifest, body.length, ociManifest, now, now, heatAfter(undefined, 1, now) - Math.random(), upstream);
    manifestRow.run(manifest, ociManifest);
    grant.run(repositoryId, manifest, -1);
    tag.run(repositoryId, `v${image}`, '', manifest, ociManifest, body.length, now);
    for (const { digest, size } of layers) {
      link.run(manifest, digest, 'blob', size);
      grant.run(repositoryId, digest, size);
    }
    if (image % 10_000 === 0) onProgress(image * (blobsPerImage + 1));
  }
  if (images > 0) database.exec('COMMIT');
}

function manifestOf(layers: readonly { digest: Digest; size: number }[]): { body: Buffer; manifest: Digest } {
  const descriptors = layers.map((layer) => ({ mediaType: 'application/vnd.oci.image.layer.v1.tar', ...layer }));
  const body = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: ociManifest, layers: descriptors }));
  return { body, manifest: digestOf(body) };
}

function storeImage(
  layout: Layout,
  catalog: Catalog,
  { repository, tag, contents }: { repository: string; tag: string; contents: readonly Buffer[] },
): { manifest: Digest; layers: Digest[] } {
  const layers = contents.map((content) => storeBlob(layout, catalog, content));
  const { body, manifest } = manifestOf(layers.map((digest, index) => ({ digest, size: contents[index]!.length })));
  writeFileSync(layout.blob(manifest), body);
  const [size, contentType] = [body.length, ociManifest];
  const key = `docker.io/${repository}`;
  catalog.manifests.record(manifest, { repository: key, size, contentType, links: readManifest(body, contentType) });
  for (const digest of [manifest, ...layers]) catalog.blobs.noteShown(digest, upstream);
  catalog.tags.record(
    { repository: key, tag, variant: '' },
    { digest: manifest, contentType, size, checkedAtMs: Date.now() },
  );
  return { manifest, layers };
}

function storeBlob(layout: Layout, catalog: Catalog, content: Buffer): Digest {
  const digest = digestOf(content);
  writeFileSync(layout.blob(digest), content);
  const modifiedAtMs = statSync(layout.blob(digest)).mtimeMs;
  catalog.blobs.record(digest, { size: content.length, contentType: octetStream, modifiedAtMs });
  return digest;
}

function coldContent(index: number): Buffer {
  return Buffer.from(`cold blob ${index}\n`);
}

function seeded(seed: string, size: number): Buffer {
  return Buffer.alloc(size, digestOf(Buffer.from(seed)));
}

function pathOf(repository: string, kind: 'manifests' | 'blobs', digest: Digest): string {
  return `/v2/${repository}/${kind}/${digest}?ns=docker.io`;
}
