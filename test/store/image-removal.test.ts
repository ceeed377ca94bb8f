import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readManifest } from '../../src/oci/descriptor.ts';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { ociIndex, ociManifest } from '../../src/oci/media-types.ts';
import { Catalog } from '../../src/store/catalog/catalog.ts';
import { inMemory } from '../../src/store/catalog/database.ts';

// The same cases each time.
fc.configureGlobal({ seed: 1 });

const app = 'docker.io/library/app';
const other = 'quay.io/org/other';
const blob = (name: string): Digest => digestOf(Buffer.from(name));
const nothing = { tags: new Set<string>(), manifests: new Set<Digest>() };

function openCatalog(): Promise<Catalog> {
  return Catalog.open({
    path: inMemory,
    now: () => 5,
    onFault: (error) => {
      throw error;
    },
  });
}

function descriptor(digest: Digest) {
  return { mediaType: 'application/x', digest, size: 10 };
}

interface Content {
  readonly repository?: string;
  readonly layers?: readonly Digest[];
  readonly children?: readonly Digest[];
  readonly subject?: Digest | undefined;
}

/** Stores a manifest that names these, and returns its digest. */
function store(catalog: Catalog, { repository = app, layers = [], children = [], subject }: Content): Digest {
  const isIndex = children.length > 0;
  const named = isIndex ? { manifests: children.map(descriptor) } : { layers: layers.map(descriptor) };
  const body = Buffer.from(JSON.stringify({ ...named, ...(subject && { subject: descriptor(subject) }) }));
  const contentType = isIndex ? ociIndex : ociManifest;
  const links = readManifest(body, contentType);
  catalog.manifests.record(digestOf(body), { repository, size: body.length, contentType, links });
  for (const layer of layers) catalog.blobs.record(layer, { size: 10, contentType: 'application/octet-stream' });
  return digestOf(body);
}

function tag(catalog: Catalog, name: string, { digest, repository = app }: { digest: Digest; repository?: string }) {
  catalog.tags.record(
    { repository, tag: name, variant: '' },
    { digest, contentType: ociManifest, size: 1, checkedAtMs: 1 },
  );
}

/** Forgets an image and the blobs that no other image needs, as if their files were gone. */
function remove(catalog: Catalog, reference: string, repository = app): Digest[] {
  const gone = catalog.removal.forget({ repository, reference }).map(({ digest }) => digest);
  for (const digest of gone) catalog.blobs.forget(digest);
  return gone.toSorted();
}

describe('the removal of an image', () => {
  test('takes what only it needs, with its attachments, its tag and rights', async () => {
    using catalog = await openCatalog();
    const image = store(catalog, { layers: [blob('base'), blob('own')] });
    const index = store(catalog, { children: [image, blob('never pulled')] });
    const stays = store(catalog, { layers: [blob('base'), blob('second')] });
    const signature = store(catalog, { layers: [blob('signature')], subject: index });
    const cosign = store(catalog, { layers: [blob('cosign')] });
    tag(catalog, `sha256-${image.slice(7)}.sig`, { digest: cosign });
    tag(catalog, '1', { digest: index });
    tag(catalog, '2', { digest: stays });
    const expected = [image, index, signature, cosign, blob('own'), blob('signature'), blob('cosign')].toSorted();
    const name = { repository: app, reference: '1' };
    expect(
      catalog.removal
        .own(index, name, nothing)
        .map(({ digest }) => digest)
        .toSorted(),
    ).toEqual(expected);
    expect(remove(catalog, '1')).toEqual(expected);
    expect(catalog.tags.names(app)).toEqual(['2']);
    expect(catalog.tags.get({ ...name, tag: '1', variant: '' })).toBeUndefined();
    expect(catalog.manifests.has(index)).toBe(false);
    expect(catalog.grants.mayRead(app, blob('own'))).toBe(false);
    expect(catalog.grants.mayRead(app, blob('base'))).toBe(true);
    expect(catalog.blobs.get(blob('own'))).toBeUndefined();
    expect(catalog.blobs.get(blob('base'))).toBeDefined();
    expect(catalog.manifests.referrers(app, index)).toEqual([]);
    expect(catalog.images.attachments(image, app)).toEqual([]);
    expect(catalog.blobs.usage().blobs).toBe(3);
    expect(remove(catalog, '2')).toEqual([stays, blob('base'), blob('second')].toSorted());
    expect(catalog.blobs.usage()).toMatchObject({ blobs: 0, bytes: 0 });
  });

  test('leaves what another tag, another repository, an index or a pin needs, and takes the right to it', async () => {
    using catalog = await openCatalog();
    const image = store(catalog, { layers: [blob('base')] });
    store(catalog, { repository: other, layers: [blob('base')] });
    tag(catalog, '1', { digest: image });
    tag(catalog, 'latest', { digest: image });
    tag(catalog, 'copy', { digest: image, repository: other });
    expect(remove(catalog, '1')).toEqual([]);
    expect(catalog.grants.mayRead(app, image)).toBe(true);
    expect(remove(catalog, 'latest')).toEqual([]);
    expect([catalog.grants.mayRead(app, image), catalog.grants.mayRead(app, blob('base'))]).toEqual([false, false]);
    expect([catalog.grants.mayRead(other, image), catalog.grants.mayRead(other, blob('base'))]).toEqual([true, true]);
    const child = store(catalog, { layers: [blob('child')] });
    const index = store(catalog, { children: [child] });
    expect(catalog.removal.holders(child, app)).toEqual([`${app}@${index}`]);
    expect(remove(catalog, child)).toEqual([]);
    catalog.pins.add(app, child);
    expect(remove(catalog, index)).toEqual([index]);
    expect(catalog.blobs.get(blob('child'))).toBeDefined();
    catalog.pins.remove(app, child);
    expect(remove(catalog, child)).toEqual([child, blob('child')].toSorted());
  });

  test('leaves what a tag of another repository stands for, by the same name or attached to the same image', async () => {
    using catalog = await openCatalog();
    const image = store(catalog, { layers: [blob('base')] });
    const signature = store(catalog, { layers: [blob('signature')] });
    const attaching = `sha256-${image.slice(7)}.sig`;
    tag(catalog, '1', { digest: image });
    tag(catalog, attaching, { digest: signature });
    store(catalog, { repository: other, layers: [blob('signature')] });
    tag(catalog, attaching, { digest: signature, repository: other });
    const name = { repository: app, reference: '1' };
    const own = (leaving = nothing) =>
      catalog.removal
        .own(image, name, leaving)
        .map(({ digest }) => digest)
        .toSorted();
    expect(own()).toEqual([image, blob('base')].toSorted());
    // Unless it is about to go, too.
    const both = [image, blob('base'), signature, blob('signature')].toSorted();
    expect(own({ ...nothing, tags: new Set([`${other}:${attaching}`]) })).toEqual(both);
    expect(own({ ...nothing, tags: new Set([`${app}:${attaching}`]) })).toEqual([image, blob('base')].toSorted());
    tag(catalog, '1', { digest: image, repository: other });
    expect(own()).toEqual([]);
    expect(own({ ...nothing, tags: new Set([`${other}:1`, `${other}:${attaching}`]) })).toEqual(both);
    expect(remove(catalog, '1')).toEqual([]);
    expect(catalog.tags.names(other).toSorted()).toEqual(['1', attaching]);
  });

  test('of something pinned frees what stays of it', async () => {
    using catalog = await openCatalog();
    const image = store(catalog, { layers: [blob('base'), blob('own')] });
    store(catalog, { layers: [blob('base')] });
    tag(catalog, '1', { digest: image });
    catalog.pins.add(app, '1');
    expect(catalog.images.manifest(image)?.isPinned).toBe(true);
    expect(remove(catalog, '1')).toEqual([image, blob('own')].toSorted());
    // What needs it alone is what is left.
    expect(catalog.pins.isPinned(app, '1')).toBe(true);
    const again = store(catalog, { layers: [blob('base'), blob('own')] });
    expect(catalog.images.manifest(again)?.isPinned).toBe(false);
    tag(catalog, '1', { digest: again });
    catalog.blobs.usage();
    expect(catalog.images.manifest(again)?.isPinned).toBe(true);
  });

  test('takes exactly what no name reaches any more, whatever is shared', async () => {
    const names = fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f');
    const images = fc.array(fc.record({ tag: fc.constantFrom('1', '2', '3', '4'), layers: fc.uniqueArray(names) }), {
      minLength: 1,
      maxLength: 8,
    });
    await fc.assert(
      fc.asyncProperty(images, fc.array(fc.constantFrom('1', '2', '3', '4')), async (stored, removed) => {
        using catalog = await openCatalog();
        const tags = new Map<string, { digest: Digest; needs: Digest[] }>();
        for (const { tag: name, layers } of stored) {
          const needs = layers.map(blob);
          const image = store(catalog, { layers: needs });
          const digest = layers.length > 2 ? store(catalog, { children: [image] }) : image;
          // What a tag stood for before would be an image without a tag; the same again stays as it is.
          if (tags.has(name) && tags.get(name)?.digest !== digest) remove(catalog, name);
          tag(catalog, name, { digest });
          tags.set(name, { digest, needs: [...needs, image, digest] });
        }
        for (const name of removed) {
          remove(catalog, name);
          tags.delete(name);
          const needed = new Set([...tags.values()].flatMap(({ needs }) => needs));
          const left = catalog.blobs.page({ after: '', limit: 100 }).map(({ digest }) => digest);
          expect(left.filter((digest) => !needed.has(digest))).toEqual([]);
          expect(
            [...needed].filter((digest) => !left.includes(digest) || !catalog.grants.mayRead(app, digest)),
          ).toEqual([]);
        }
      }),
      { numRuns: 40 },
    );
  });
});
