import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, expect, test } from 'vitest';
import { readManifest } from '../../src/oci/descriptor.ts';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { ociIndex, ociManifest } from '../../src/oci/media-types.ts';
import { Catalog } from '../../src/store/catalog.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

const repository = 'docker.io/library/app';
const blob = (name: string): Digest => digestOf(Buffer.from(name));

function descriptor(digest: Digest) {
  return { mediaType: 'application/x', digest, size: 10 };
}

/** A cache in which whatever is named is stored. */
function openIn(path: string): Promise<Catalog> {
  return Catalog.open({
    path: join(path, 'catalog.sqlite'),
    now: () => 5,
    onFault: (error) => {
      throw error;
    },
  });
}

/** Stores a manifest that names these, and returns its digest. */
function store(
  catalog: Catalog,
  { layers = [], children = [], subject }: { layers?: Digest[]; children?: Digest[]; subject?: Digest },
): Digest {
  const body = Buffer.from(
    JSON.stringify(
      children.length > 0
        ? { manifests: children.map(descriptor) }
        : { layers: layers.map(descriptor), ...(subject && { subject: descriptor(subject) }) },
    ),
  );
  const contentType = children.length > 0 ? ociIndex : ociManifest;
  const links = readManifest(body, contentType);
  catalog.recordManifest(digestOf(body), { repository, size: body.length, contentType, links });
  for (const layer of layers) catalog.recordBlob(layer, { size: 10, contentType: 'application/octet-stream' });
  return digestOf(body);
}

function tag(catalog: Catalog, name: string, digest: Digest): void {
  catalog.recordTag(
    { repository, tag: name, variant: '' },
    { digest, contentType: ociManifest, size: 1, checkedAtMs: 1 },
  );
}

/** What is marked as pinned in the file, once the catalog has closed it. */
function pinnedIn(path: string): string[] {
  using database = new DatabaseSync(join(path, 'catalog.sqlite'));
  return database
    .prepare('SELECT digest FROM blobs WHERE pinned = 1 ORDER BY digest')
    .all()
    .map((row) => String(row['digest']));
}

describe('a pin', () => {
  test('holds the image that a tag stands for, with what it names and what goes with it, and nothing else', async () => {
    await using folder = await temporaryDirectory();
    const expected: Digest[] = [];
    {
      using catalog = await openIn(folder.path);
      const image = store(catalog, { layers: [blob('base'), blob('own')] });
      const index = store(catalog, { children: [image] });
      const other = store(catalog, { layers: [blob('base'), blob('other')] });
      const signature = store(catalog, { layers: [blob('signature')], subject: index });
      const cosigned = store(catalog, { layers: [blob('cosign')] });
      tag(catalog, `sha256-${image.slice(7)}.sig`, cosigned);
      tag(catalog, '1', index);
      catalog.pin(repository, '1');
      expect(catalog.pins()).toEqual([{ repository, reference: '1', pinnedAtMs: 5 }]);
      expect(catalog.isPinned(repository, '1')).toBe(true);
      expect(catalog.isPinned(repository, '2')).toBe(false);
      expected.push(image, index, signature, cosigned, ...['base', 'own', 'signature', 'cosign'].map(blob));
      expect(new Set(catalog.parts(index).map(({ digest }) => digest))).toEqual(new Set(expected));
      expect(catalog.parents(blob('base')).toSorted()).toEqual([image, other].toSorted());
    }
    expect(pinnedIn(folder.path)).toEqual(expected.toSorted());
  });

  test('follows its tag, and holds what comes later', async () => {
    await using folder = await temporaryDirectory();
    let second: Digest;
    {
      using catalog = await openIn(folder.path);
      catalog.pin(repository, '1');
      const first = store(catalog, { layers: [blob('first'), blob('base')] });
      tag(catalog, '1', first);
      second = store(catalog, { layers: [blob('base')] });
      tag(catalog, '1', second);
      catalog.recordBlob(blob('unrelated'), { size: 1, contentType: '' });
    }
    expect(pinnedIn(folder.path)).toEqual([blob('base'), second].toSorted());
    {
      using catalog = await openIn(folder.path);
      catalog.forgetBlob(blob('base'));
      catalog.forgetBlob(second);
    }
    expect(pinnedIn(folder.path)).toEqual([]);
    {
      using catalog = await openIn(folder.path);
      catalog.recordBlob(second, { size: 1, contentType: ociManifest });
      catalog.recordBlob(blob('base'), { size: 10, contentType: '' });
    }
    expect(pinnedIn(folder.path)).toEqual([blob('base'), second].toSorted());
  });

  test('that is taken back holds nothing but what another one needs', async () => {
    await using folder = await temporaryDirectory();
    let byDigest: Digest;
    {
      using catalog = await openIn(folder.path);
      tag(catalog, '1', store(catalog, { layers: [blob('base'), blob('one')] }));
      byDigest = store(catalog, { layers: [blob('base'), blob('two')] });
      catalog.pin(repository, '1');
      catalog.pin(repository, byDigest);
      expect(catalog.unpin(repository, '1')).toBe(true);
      expect(catalog.unpin(repository, '1')).toBe(false);
    }
    expect(pinnedIn(folder.path)).toEqual([byDigest, blob('base'), blob('two')].toSorted());
  });

  test('of the configuration holds tags by pattern, until the configuration says otherwise', async () => {
    await using folder = await temporaryDirectory();
    let image: Digest;
    {
      using catalog = await openIn(folder.path);
      image = store(catalog, { layers: [blob('base')] });
      tag(catalog, 'v1', image);
      tag(catalog, 'v2', store(catalog, { layers: [blob('else')] }));
      catalog.usePinPatterns((_, name) => name === 'v1', 'v1');
      expect(catalog.isPinned(repository, 'v1')).toBe(true);
    }
    expect(pinnedIn(folder.path)).toEqual([image, blob('base')].toSorted());
    {
      using catalog = await openIn(folder.path);
      catalog.usePinPatterns(() => false, '');
    }
    expect(pinnedIn(folder.path)).toEqual([]);
  });
});

test('the number of blobs and their bytes are those of the rows, whatever has come and gone', async () => {
  await using folder = await temporaryDirectory();
  using catalog = await openIn(folder.path);
  for (const name of ['a', 'b', 'c']) catalog.recordBlob(blob(name), { size: 7, contentType: '' });
  catalog.recordBlob(blob('a'), { size: 9, contentType: '' });
  catalog.forgetBlob(blob('b'));
  expect(catalog.usage()).toEqual({ blobs: 2, bytes: 16, pinnedBytes: 0 });
});

describe('a catalog of another version', () => {
  test('an older one is brought up to date with all that it knows', async () => {
    await using folder = await temporaryDirectory();
    const subject = blob('subject');
    {
      using old = new DatabaseSync(join(folder.path, 'catalog.sqlite'));
      old.exec(`
        CREATE TABLE repositories (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
        CREATE TABLE blobs (digest TEXT PRIMARY KEY, size INTEGER NOT NULL, content_type TEXT NOT NULL,
          stored_at INTEGER NOT NULL, used_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
        CREATE TABLE manifests (digest TEXT PRIMARY KEY, media_type TEXT NOT NULL, artifact_type TEXT, subject TEXT,
          annotations TEXT) STRICT, WITHOUT ROWID;
        INSERT INTO repositories VALUES (1, '${repository}');
        INSERT INTO blobs VALUES ('${blob('a')}', 5, 'text/plain', 1000, 2000);
        INSERT INTO manifests VALUES ('${blob('a')}', '${ociManifest}', NULL, '${subject}', NULL);
        PRAGMA user_version = 1;`);
    }
    using catalog = await openIn(folder.path);
    expect(catalog.blob(blob('a'))).toEqual({ size: 5, contentType: 'text/plain' });
    expect(catalog.usage()).toEqual({ blobs: 1, bytes: 5, pinnedBytes: 0 });
    expect(catalog.attachments(subject)).toEqual([blob('a')]);
    expect(catalog.images.manifest(blob('a'))?.source).toBeUndefined();
  });

  test('a newer one is refused in one sentence, and left as it is', async () => {
    await using folder = await temporaryDirectory();
    const path = join(folder.path, 'catalog.sqlite');
    {
      using newer = new DatabaseSync(path);
      newer.exec('CREATE TABLE blobs (digest TEXT); PRAGMA user_version = 6');
    }
    await expect(openIn(folder.path)).rejects.toThrow(`${path} has version 6 and this program knows 5`);
    using newer = new DatabaseSync(path);
    expect(newer.prepare('SELECT * FROM blobs').all()).toEqual([]);
  });
});
