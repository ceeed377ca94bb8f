import { writeFileSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { ociManifest } from '../../src/oci/media-types.ts';
import { Catalog } from '../../src/store/catalog/catalog.ts';
import { layoutOf, prepareLayout } from '../../src/store/files/layout.ts';

/** The upstream of every image. */
export const searchUpstream = 'docker.io';

const configTypes = [
  'application/vnd.oci.image.config.v1+json',
  'application/vnd.cncf.helm.config.v1+json',
  'application/vnd.wasm.config.v0+json',
];
const topics = ['database', 'proxy', 'queue', 'metrics', 'gateway', 'builder', 'runner', 'cache', 'ledger', 'mailer'];
const imagesAtOnce = 1_000;

/** What the images of a cache are called. */
export interface SearchCache {
  readonly repositories: readonly string[];
  /** Paths of manifests, for clients that pull them. */
  readonly paths: readonly string[];
}

/**
 * Makes a cache of many small images with annotations, a hundred to a repository unless told: manifests and configs are
 * stored, layers are not. Written straight into the tables, as through a mirror it takes an hour.
 */
export async function makeSearchCache(
  directory: string,
  images: number,
  { imagesPerRepository = 100 }: { readonly imagesPerRepository?: number } = {},
): Promise<SearchCache> {
  const layout = layoutOf(directory);
  await prepareLayout(layout);
  const catalog = await Catalog.open({
    path: layout.catalog,
    now: Date.now,
    onFault: (error) => {
      throw error;
    },
  });
  // As it is found when it was stopped well: nothing is being rebuilt.
  catalog.notes.remove('rebuild');
  catalog.names.noteWhole();
  catalog[Symbol.dispose]();

  using database = new DatabaseSync(layout.catalog);
  database.function('heat_after', () => 0);
  database.exec('PRAGMA synchronous = OFF');
  const insert = (table: string, ...columns: string[]) =>
    database.prepare(`INSERT INTO ${table} (${columns.join(', ')}) VALUES (${columns.map(() => '?').join(', ')})`);
  const repositoryRow = database.prepare('INSERT INTO repositories (name) VALUES (?) RETURNING id');
  const blob = insert('blobs', 'digest', 'size', 'content_type', 'stored_at', 'used_at', 'heat', 'shown');
  const manifestRow = insert('manifests', 'digest', 'media_type');
  const link = insert('links', 'manifest', 'target', 'kind', 'size');
  const grant = insert('grants', 'repository', 'digest', 'size');
  const tag = insert('tags', 'repository', 'tag', 'variant', 'digest', 'content_type', 'size', 'checked_at');

  const startedMs = Date.now() - images * 60_000;
  const repositories: string[] = [];
  const paths: string[] = [];
  let repositoryId = 0;
  for (let image = 0; image < images; image += 1) {
    if (image % imagesAtOnce === 0) database.exec(image === 0 ? 'BEGIN' : 'COMMIT; BEGIN');
    const version = image % imagesPerRepository;
    if (version === 0) {
      const at = repositories.length;
      repositories.push(`team-${at % 37}/${topics[at % topics.length]}-${at}`);
      repositoryId = Number(repositoryRow.get(`${searchUpstream}/${repositories.at(-1)}`)?.['id']);
    }
    const [config, manifest] = contentsOf(image, repositories.at(-1)!);
    const storedMs = startedMs + image * 60_000;
    for (const { digest, bytes } of [config, manifest]) {
      writeFileSync(layout.blob(digest), bytes);
      blob.run(digest, bytes.length, ociManifest, storedMs, storedMs, 1, searchUpstream);
      grant.run(repositoryId, digest, bytes.length);
    }
    manifestRow.run(manifest.digest, ociManifest);
    link.run(manifest.digest, config.digest, 'blob', config.bytes.length);
    tag.run(repositoryId, tagOf(version), '', manifest.digest, ociManifest, manifest.bytes.length, storedMs);
    paths.push(`/v2/${searchUpstream}/${repositories.at(-1)}/manifests/${manifest.digest}`);
  }
  if (images > 0) database.exec('COMMIT');
  return { repositories, paths };
}

interface Content {
  readonly digest: Digest;
  readonly bytes: Buffer;
}

function contentsOf(image: number, repository: string): readonly [config: Content, manifest: Content] {
  const at = new Date(1.6e12 + image * 3_600_000).toISOString();
  const configBytes = Buffer.from(
    JSON.stringify({ os: 'linux', architecture: image % 3 ? 'amd64' : 'arm64', created: at, image }),
  );
  const config = {
    mediaType: configTypes[image % 10 === 0 ? 1 + (image % 20) / 10 : 0],
    digest: digestOf(configBytes),
    size: configBytes.length,
  };
  const bytes = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: ociManifest,
      config,
      layers: [],
      annotations: {
        'org.opencontainers.image.title': `${topics[image % topics.length]} number ${image}`,
        'org.opencontainers.image.description': `A ${topics[(image * 7) % topics.length]} of ${repository} for everyone`,
      },
    }),
  );
  return [
    { digest: config.digest, bytes: configBytes },
    { digest: digestOf(bytes), bytes },
  ];
}

function tagOf(version: number): string {
  return `${Math.floor(version / 10)}.${version % 10}.0`;
}
