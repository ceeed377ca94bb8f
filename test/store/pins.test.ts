import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, expect, test } from 'vitest';
import { readManifest } from '../../src/oci/descriptor.ts';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { ociIndex, ociManifest } from '../../src/oci/media-types.ts';
import { Catalog } from '../../src/store/catalog/catalog.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

const repository = 'docker.io/library/app';
const stranger = 'ghcr.io/some/body';
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

interface Content {
  readonly layers?: readonly Digest[];
  readonly children?: readonly Digest[];
  readonly subject?: Digest;
  readonly within?: string;
}

/** Stores a manifest that names these, and returns its digest. */
function store(catalog: Catalog, { layers = [], children = [], subject, within = repository }: Content): Digest {
  const body = Buffer.from(
    JSON.stringify(
      children.length > 0
        ? { manifests: children.map(descriptor) }
        : { layers: layers.map(descriptor), ...(subject && { subject: descriptor(subject) }) },
    ),
  );
  const contentType = children.length > 0 ? ociIndex : ociManifest;
  const links = readManifest(body, contentType);
  catalog.manifests.record(digestOf(body), { repository: within, size: body.length, contentType, links });
  for (const layer of layers) catalog.blobs.record(layer, { size: 10, contentType: 'application/octet-stream' });
  return digestOf(body);
}

function tag(catalog: Catalog, name: string, digest: Digest, within = repository): void {
  catalog.tags.record(
    { repository: within, tag: name, variant: '' },
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
  test('holds the image that a tag stands for, with what it names and its attachments, and nothing else', async () => {
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
      catalog.pins.add(repository, '1');
      expect(catalog.pins.list()).toEqual([{ repository, reference: '1', pinnedAtMs: 5 }]);
      expect(catalog.pins.isPinned(repository, '1')).toBe(true);
      expect(catalog.pins.isPinned(repository, '2')).toBe(false);
      expected.push(image, index, signature, cosigned, ...['base', 'own', 'signature', 'cosign'].map(blob));
      expect(new Set(catalog.images.parts(index, repository).map(({ digest }) => digest))).toEqual(new Set(expected));
      expect(catalog.images.parents(blob('base')).toSorted()).toEqual([image, other].toSorted());
    }
    expect(pinnedIn(folder.path)).toEqual(expected.toSorted());
  });

  test('holds the attachments of the image in its own repository alone, whatever others attach to it', async () => {
    await using folder = await temporaryDirectory();
    const expected: Digest[] = [];
    {
      using catalog = await openIn(folder.path);
      const layers = [blob('base')];
      const image = store(catalog, { layers });
      const index = store(catalog, { children: [image] });
      const attached: Digest[] = [];
      const attach = (within: string): Digest[] => {
        const tagged = store(catalog, { layers: [blob(`tagged ${within}`)], within });
        tag(catalog, `${image.replace(':', '-')}.sig`, tagged, within);
        return [tagged, store(catalog, { layers: [blob(`referring ${within}`)], subject: image, within })];
      };
      attached.push(...attach(stranger));
      catalog.pins.add(repository, '1');
      tag(catalog, '1', index);
      // One who may read the image too, and comes when it is pinned.
      const copier = 'quay.io/copy/cat';
      store(catalog, { layers, within: copier });
      store(catalog, { children: [image], within: copier });
      attached.push(...attach(copier));
      for (const digest of attached) catalog.blobs.record(digest, { size: 1, contentType: ociManifest });
      const own = attach(repository);
      expect(catalog.images.attachments(image, repository)).toEqual(own.toSorted());
      expect(catalog.images.attachments(image, stranger)).toEqual([]);
      expected.push(
        index,
        image,
        ...own,
        blob('base'),
        ...['tagged', 'referring'].map((n) => blob(`${n} ${repository}`)),
      );
      expect(new Set(catalog.images.parts(index, repository).map(({ digest }) => digest))).toEqual(new Set(expected));
      // An attachment of a pinned image in another repository can be evicted alone; what the pin holds cannot.
      expect(attached.map((digest) => catalog.evictions.group(digest).length)).toEqual([1, 1, 1, 1]);
      expect(catalog.evictions.group(own[0]!)).toEqual([]);
    }
    expect(pinnedIn(folder.path)).toEqual(expected.toSorted());
  });

  test('of an image that comes through another repository holds its attachments once its own repository may read it', async () => {
    await using folder = await temporaryDirectory();
    const expected: Digest[] = [];
    {
      using catalog = await openIn(folder.path);
      const image = store(catalog, { layers: [blob('base')], within: stranger });
      const signature = store(catalog, { layers: [blob('signature')] });
      tag(catalog, `${image.replace(':', '-')}.sig`, signature);
      catalog.pins.add(repository, image);
      expect(catalog.images.attachments(image, repository)).toEqual([]);
      await catalog.manifests.share(repository, image);
      expected.push(image, blob('base'), signature, blob('signature'));
    }
    expect(pinnedIn(folder.path)).toEqual(expected.toSorted());
  });

  test('lets go of what a tag has attached to its image when that tag moves or goes', async () => {
    await using folder = await temporaryDirectory();
    const expected: Digest[] = [];
    {
      using catalog = await openIn(folder.path);
      const image = store(catalog, { layers: [blob('base')] });
      const [sig, att] = ['sig', 'att'].map((kind) => `${image.replace(':', '-')}.${kind}`) as [string, string];
      tag(catalog, '1', image);
      catalog.pins.add(repository, '1');
      for (const version of ['one', 'two']) {
        for (const name of [sig, att]) tag(catalog, name, store(catalog, { layers: [blob(version + name)] }));
      }
      catalog.tags.forget({ repository, tag: att, variant: '' });
      const signature = catalog.tags.get({ repository, tag: sig, variant: '' })!.digest;
      expect(catalog.images.attachments(image, repository)).toEqual([signature]);
      expected.push(image, blob('base'), signature, blob(`two${sig}`));
    }
    expect(pinnedIn(folder.path)).toEqual(expected.toSorted());
  });

  test('follows its tag, and holds what comes later', async () => {
    await using folder = await temporaryDirectory();
    let second: Digest;
    {
      using catalog = await openIn(folder.path);
      catalog.pins.add(repository, '1');
      const first = store(catalog, { layers: [blob('first'), blob('base')] });
      tag(catalog, '1', first);
      second = store(catalog, { layers: [blob('base')] });
      tag(catalog, '1', second);
      catalog.blobs.record(blob('unrelated'), { size: 1, contentType: '' });
    }
    expect(pinnedIn(folder.path)).toEqual([blob('base'), second].toSorted());
    {
      using catalog = await openIn(folder.path);
      catalog.blobs.forget(blob('base'));
      catalog.blobs.forget(second);
    }
    expect(pinnedIn(folder.path)).toEqual([]);
    {
      using catalog = await openIn(folder.path);
      catalog.blobs.record(second, { size: 1, contentType: ociManifest });
      catalog.blobs.record(blob('base'), { size: 10, contentType: '' });
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
      catalog.pins.add(repository, '1');
      catalog.pins.add(repository, byDigest);
      expect(catalog.pins.remove(repository, '1')).toBe(true);
      expect(catalog.pins.remove(repository, '1')).toBe(false);
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
      catalog.pins.usePatterns((_, name) => name === 'v1', 'v1');
      expect(catalog.pins.isPinned(repository, 'v1')).toBe(true);
      while (catalog.pins.renew());
    }
    expect(pinnedIn(folder.path)).toEqual([image, blob('base')].toSorted());
    {
      using catalog = await openIn(folder.path);
      catalog.pins.usePatterns(() => false, '');
      while (catalog.pins.renew());
    }
    expect(pinnedIn(folder.path)).toEqual([]);
  });

  test('of the configuration holds many images in small steps, across a restart, and frees none of them meanwhile', async () => {
    await using folder = await temporaryDirectory();
    const images = Array.from({ length: 1_000 }, (_, index) => `${index}`);
    const held = new Set([blob('base')]);
    {
      using catalog = await openIn(folder.path);
      for (const name of images) {
        const image = store(catalog, { layers: [blob('base'), blob(name)] });
        tag(catalog, name, image);
        held.add(image).add(blob(name));
      }
      tag(catalog, '1', store(catalog, { layers: [blob('other')], within: stranger }), stranger);
      catalog.pins.usePatterns((name) => name === repository, 'one');
      expect(catalog.pins.renew()).toBe(true);
      const { bytes, pinnedBytes } = catalog.blobs.usage();
      expect(pinnedBytes).toBeLessThan(bytes / 2);
    }
    {
      using catalog = await openIn(folder.path);
      catalog.pins.usePatterns((name) => name === repository, 'one');
      while (catalog.pins.renew());
    }
    expect(pinnedIn(folder.path)).toEqual([...held].toSorted());
    {
      using catalog = await openIn(folder.path);
      const { pinnedBytes } = catalog.blobs.usage();
      catalog.pins.usePatterns((name, tagged) => name === repository && tagged.length < 4, 'the same in other words');
      do expect(catalog.blobs.usage().pinnedBytes).toBe(pinnedBytes);
      while (catalog.pins.renew());
      catalog.pins.usePatterns((_, tagged) => tagged === '7', 'less');
      while (catalog.pins.renew());
      expect(catalog.blobs.usage().pinnedBytes).toBeLessThan(pinnedBytes);
    }
    expect(pinnedIn(folder.path)).toHaveLength(3);
  });
});

test('the number of blobs and their bytes are those of the rows, whatever has come and gone', async () => {
  await using folder = await temporaryDirectory();
  using catalog = await openIn(folder.path);
  for (const name of ['a', 'b', 'c']) catalog.blobs.record(blob(name), { size: 7, contentType: '' });
  catalog.blobs.record(blob('a'), { size: 9, contentType: '' });
  catalog.blobs.forget(blob('b'));
  expect(catalog.blobs.usage()).toEqual({ blobs: 2, bytes: 16, pinnedBytes: 0, unneededBytes: 16 });
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
        CREATE TABLE grants (repository INTEGER NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL,
          PRIMARY KEY (repository, digest)) STRICT, WITHOUT ROWID;
        CREATE TABLE tags (repository INTEGER NOT NULL, tag TEXT NOT NULL, variant TEXT NOT NULL, digest TEXT NOT NULL,
          content_type TEXT NOT NULL, size INTEGER NOT NULL, checked_at INTEGER NOT NULL,
          PRIMARY KEY (repository, tag, variant)) STRICT, WITHOUT ROWID;
        INSERT INTO repositories VALUES (1, '${repository}');
        INSERT INTO blobs VALUES ('${blob('a')}', 5, 'text/plain', 1000, 2000);
        INSERT INTO manifests VALUES ('${blob('a')}', '${ociManifest}', NULL, '${subject}', NULL);
        INSERT INTO grants VALUES (1, '${blob('a')}', -1), (1, '${subject}', -1);
        INSERT INTO tags VALUES (1, '${subject.replace(':', '-')}.sig', '', '${blob('b')}', '${ociManifest}', 5, 1000);
        PRAGMA user_version = 1;`);
    }
    using catalog = await openIn(folder.path);
    expect(catalog.blobs.get(blob('a'))).toEqual({ size: 5, contentType: 'text/plain' });
    // Only repositories of this upstream may read it: it came from there.
    expect(catalog.blobs.isShown(blob('a'), 'docker.io')).toBe(true);
    expect(catalog.blobs.usage()).toEqual({ blobs: 1, bytes: 5, pinnedBytes: 0, unneededBytes: 0 });
    expect(catalog.images.attachments(subject, repository)).toEqual([blob('a'), blob('b')].toSorted());
    expect(catalog.images.manifest(blob('a'))?.source).toBeUndefined();
  });

  test('a newer one is refused in one sentence, and left as it is', async () => {
    await using folder = await temporaryDirectory();
    const path = join(folder.path, 'catalog.sqlite');
    {
      using newer = new DatabaseSync(path);
      newer.exec('CREATE TABLE blobs (digest TEXT); PRAGMA user_version = 11');
    }
    await expect(openIn(folder.path)).rejects.toThrow(`${path} has version 11 and this program knows 10`);
    using newer = new DatabaseSync(path);
    expect(newer.prepare('SELECT * FROM blobs').all()).toEqual([]);
  });
});
