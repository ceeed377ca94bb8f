import { describe, expect, test } from 'vitest';
import { documents, readDocuments } from '../../src/archive/archive.ts';
import { containerParts, dockerManifest } from '../../src/archive/docker-manifest.ts';
import { readImageFolder } from '../../src/archive/image-folder.ts';
import { dockerName, isAttachmentTag, nameIn } from '../../src/archive/image-names.ts';
import { readIndexFile } from '../../src/archive/index-file.ts';
import { readLists } from '../../src/archive/listed-images.ts';
import { rootsOf } from '../../src/archive/roots.ts';
import { readManifest } from '../../src/oci/descriptor.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { ociManifest } from '../../src/oci/media-types.ts';
import { archiveOf } from '../support/archive-in-memory.ts';
import { localArtifact, localImage, localIndex } from '../support/images.ts';
import { layoutOf } from '../support/layouts.ts';

const digest = digestOf(Buffer.from('x'));
const long = digestOf(Buffer.from('x'), 'sha512');

const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));

describe('the name of an entry', () => {
  const full = 'io.containerd.image.name';
  const ref = 'org.opencontainers.image.ref.name';
  test.each([
    [
      { [full]: 'docker.io/library/x:1', [ref]: '1' },
      { kind: 'full', name: 'docker.io/library/x:1' },
    ],
    [
      { [full]: 'x:1', [ref]: '2' },
      { kind: 'tag', tag: '2' },
    ],
    [{ [full]: 1 }, { kind: 'none' }],
    [{ [ref]: '' }, { kind: 'none' }],
    [{ [ref]: 1 }, { kind: 'none' }],
    [{ [ref]: 'quay.io/a/b:1' }, { kind: 'full', name: 'quay.io/a/b:1' }],
    [{ [ref]: 'localhost/b:1' }, { kind: 'full', name: 'localhost/b:1' }],
    [{ [ref]: 'latest' }, { kind: 'tag', tag: 'latest' }],
    [{ [ref]: '1.27' }, { kind: 'tag', tag: '1.27' }],
    [{ [ref]: 'nginx:1.27' }, { kind: 'tag', tag: '1.27' }],
    [{ [ref]: 'library/nginx:1.27' }, { kind: 'tag', tag: '1.27' }],
    [{ [ref]: 'library/nginx' }, { kind: 'none' }],
    [{ [ref]: 'a:b:c' }, { kind: 'tag', tag: 'c' }],
    [{ [ref]: 'a:' }, { kind: 'none' }],
    [{ [ref]: 'a:b/c' }, { kind: 'full', name: 'a:b/c' }],
    [{ [ref]: ':x' }, { kind: 'tag', tag: 'x' }],
    [{}, { kind: 'none' }],
  ] as const)('with the annotations %j is %j', (annotations, name) => {
    expect(nameIn(annotations)).toEqual(name);
  });

  const hex = 'a'.repeat(64);
  test.each([
    [`sha256-${hex}`, true],
    [`sha512-${hex}${hex}`, true],
    [`sha256-${hex}.sig`, true],
    [`sha256-${hex}.`, false],
    [`sha256-${hex}.SIG`, false],
    [`sha256-${hex}x`, false],
    [`xsha256-${hex}`, false],
    [`sha256-${hex.slice(1)}`, false],
    [`sha1-${hex}`, false],
  ])('of the tag %s attaches something: %s', (tag, attaches) => {
    expect(isAttachmentTag({ kind: 'tag', tag })).toBe(attaches);
    expect(isAttachmentTag({ kind: 'full', name: `quay.io:443/a:${tag}` })).toBe(attaches);
    expect(isAttachmentTag({ kind: 'none' })).toBe(false);
  });

  test.each([
    ['x:1', 'docker.io/library/x:1'],
    ['a/x:1', 'docker.io/a/x:1'],
    ['quay.io/a:1', 'quay.io/a:1'],
    ['localhost:5000/a', 'localhost:5000/a'],
    ['x.y:1', 'docker.io/library/x.y:1'],
    ['/x', 'docker.io//x'],
  ])('in the form of docker save, %s, is in full %s', (written, name) => {
    expect(dockerName(written)).toBe(name);
  });
});

describe('index.json', () => {
  const entry = (more: object): object => ({ digest, size: 3, mediaType: 'application/x', ...more });
  const read = (...entries: unknown[]) => readIndexFile(json({ manifests: entries }));
  const one = (more: object) => read(entry(more)).images[0];

  test('names images, with what their annotations say', () => {
    expect(one({})).toEqual({
      digest,
      size: 3,
      mediaType: 'application/x',
      name: { kind: 'none' },
      isAttachment: false,
      suffix: undefined,
    });
    expect(one({ mediaType: 1, size: 0 })).toMatchObject({ mediaType: ociManifest, size: 0 });
    const annotations = { 'org.opencontainers.image.ref.name': '1' };
    expect(one({ annotations })).toMatchObject({ name: { kind: 'tag', tag: '1' }, isAttachment: false });
    expect(one({ annotations: [] })).toMatchObject({ name: { kind: 'none' } });
    const attached = { ...annotations, 'io.millpond.attachment': 'docker.io/x:1' };
    expect(one({ annotations: attached })).toMatchObject({
      name: { kind: 'full', name: 'docker.io/x:1' },
      isAttachment: true,
    });
    const tag = { 'org.opencontainers.image.ref.name': `sha256-${'a'.repeat(64)}.sig` };
    expect(one({ annotations: tag })).toMatchObject({ isAttachment: true, suffix: undefined });
  });

  test.each([
    ['dev.cosignproject.cosign/sigs', '.sig', true],
    ['dev.cosignproject.cosign/atts', '.att', true],
    ['dev.cosignproject.cosign/sboms', '.sbom', true],
    ['dev.cosignproject.cosign/image', undefined, false],
    ['sigs/x', undefined, false],
    ['toString', undefined, false],
    ['a/referrers', undefined, true],
    ['referrers/x', undefined, true],
  ])('of the kind %s gives the suffix %s', (kind, suffix, isAttachment) => {
    const annotations = { kind, 'org.opencontainers.image.ref.name': '1' };
    const name = kind.includes('referrers') ? { kind: 'none' } : { kind: 'tag', tag: '1' };
    expect(one({ annotations })).toMatchObject({ suffix, isAttachment, name });
    expect(one({ annotations: { kind: 1 } })).toMatchObject({ suffix: undefined, isAttachment: false });
  });

  test('says which of its entries are wrong, and how', () => {
    const wrong = [{}, { digest: 1, size: 1 }, { digest: 'x', size: 1 }, 1];
    const sizes = [{ digest }, { digest, size: -1 }, { digest, size: 0.5 }, { digest, size: '1' }];
    expect(() => readIndexFile(Buffer.from('x'))).toThrow('index.json in it is not JSON');
    const { images, unreadable } = read(...wrong, ...sizes, entry({}));
    expect(images).toHaveLength(1);
    expect(unreadable.map(({ reason }) => reason)).toEqual([
      ...wrong.map(() => 'its index.json names no digest'),
      ...sizes.map(() => 'its index.json names no size'),
    ]);
    expect(unreadable.map(({ name }) => name).slice(0, 2)).toEqual([
      'entry 1 of its index.json',
      'entry 2 of its index.json',
    ]);
  });

  test('must be a list, of 20,000 images at most', () => {
    expect(() => readIndexFile(json({ manifests: {} }))).toThrow('its index.json names no manifests');
    expect(() => readIndexFile(json([]))).toThrow('index.json in it is not a JSON object');
    const many = (count: number) => read(...Array.from({ length: count }, () => entry({})));
    expect(many(20_000).images).toHaveLength(20_000);
    expect(() => many(20_001)).toThrow('it has more than 20000 images');
  });
});

describe('the manifest.json that docker load reads', () => {
  const [config, one, two] = ['config', 'one', 'two'].map((text) => digestOf(Buffer.from(text)));
  const container = { config: config!, layers: [one!, two!] };
  const path = (of: string | undefined) => `blobs/sha256/${of?.slice(7)}`;
  const all = new Set([config!, one!, two!]);

  test('names each image once, with its tags', () => {
    const images = [
      { name: 'docker.io/x:1', container },
      { name: 'docker.io/x:2', container },
      { name: `docker.io/x@${digest}`, container },
      { name: 'docker.io/y:1', container: { ...container, layers: [one!] } },
      { name: 'docker.io/z:1', container: undefined },
    ];
    expect(JSON.parse(String(dockerManifest(images, all)))).toEqual([
      { Config: path(config), RepoTags: ['docker.io/x:1', 'docker.io/x:2'], Layers: [path(one), path(two)] },
      { Config: path(config), RepoTags: ['docker.io/y:1'], Layers: [path(one)] },
    ]);
  });

  test('leaves out what is not whole, and is none where nothing is left', () => {
    for (const lacking of all) {
      const contained = new Set([...all].filter((each) => each !== lacking));
      expect(dockerManifest([{ name: 'docker.io/x:1', container }], contained)).toBeUndefined();
    }
    expect(dockerManifest([], all)).toBeUndefined();
  });

  test('is of container images alone', () => {
    const links = (manifest: { bytes: Buffer; mediaType: string }) => readManifest(manifest.bytes, manifest.mediaType);
    const image = localImage({ label: 'x' });
    expect(containerParts(links(image))).toEqual({ config: image.config.digest, layers: [image.blobs[1]?.digest] });
    const docker = localImage({ label: 'x', mediaTypes: 'docker' });
    expect(containerParts(links(docker))?.config).toBe(docker.config.digest);
    expect(containerParts(links(localIndex('x', ['amd64'])))).toBeUndefined();
    expect(containerParts(links(localArtifact({})))).toBeUndefined();
    expect(containerParts(links(localArtifact({ config: image.config })))).toBeUndefined();
    const odd = { ...image.blobs[1]!, mediaType: `x${image.blobs[1]!.mediaType}` };
    expect(
      containerParts(links(localArtifact({ config: image.config, layers: [image.blobs[1]!, odd] }))),
    ).toBeUndefined();
  });
});

describe('the folder of one image', () => {
  const manifest = json({ mediaType: 'application/x' });
  const read = (prefix: string, names: string[] = []) => readImageFolder(manifest, { prefix, names });

  test('has blobs by their digests, and manifests beside them', () => {
    const [short, other] = [digest.slice(7), long.slice(7)];
    const names = ['version', short, `${other}.manifest.json`, `${short}.json`, `x${short}`, 'abc'].map(
      (name) => `f/${name}`,
    );
    const { images, files, made, unreadable } = read('f/', names);
    expect(images).toEqual([
      {
        name: { kind: 'none' },
        digest: digestOf(manifest),
        mediaType: 'application/x',
        size: manifest.length,
        isAttachment: false,
      },
    ]);
    expect(new Map(files)).toEqual(
      new Map([
        [digestOf(manifest), 'f/manifest.json'],
        [digest, `f/${short}`],
        [long, `f/${other}.manifest.json`],
      ]),
    );
    expect([made.size, unreadable]).toEqual([0, []]);
    expect(readImageFolder(json({}), { prefix: '', names: [] }).images[0]).toMatchObject({ mediaType: '' });
    expect(() => readImageFolder(Buffer.from('x'), { prefix: 'f/', names: [] })).toThrow(
      'f/manifest.json in it is not JSON',
    );
  });

  test.each([
    ['', { kind: 'none' }],
    ['x/', { kind: 'none' }],
    ['nginx:1.27/', { kind: 'tag', tag: '1.27' }],
    ['library/nginx:1.27/', { kind: 'tag', tag: '1.27' }],
    ['quay.io/a/b:1/', { kind: 'full', name: 'quay.io/a/b:1' }],
    ['data/quay.io/a/b:1/', { kind: 'full', name: 'quay.io/a/b:1' }],
    ['quay.io/', { kind: 'none' }],
    [`nginx@${digest}/`, { kind: 'none' }],
    ['a:b:/', { kind: 'none' }],
    ['a:b:c/', { kind: 'tag', tag: 'c' }],
  ])('called %s is of %j', (prefix, name) => {
    expect(read(prefix).images[0]?.name).toEqual(name);
  });
});

describe('an archive', () => {
  const empty = Buffer.alloc(0);
  const roots = (names: string[], unreadable: Record<string, string> = {}) =>
    rootsOf(archiveOf(Object.fromEntries(names.map((name) => [name, empty])), unreadable)).map(
      ({ prefix, list }) => prefix + list,
    );

  test('lists its images at its top, or in folders, the outermost of them', () => {
    expect(roots(['manifest.json', 'index.json', 'a/index.json'])).toEqual(['index.json']);
    expect(roots(['manifest.json', 'a/manifest.json'])).toEqual(['manifest.json']);
    expect(
      roots(['a/index.json', 'a/oci-layout', 'a/manifest.json', 'b/c/manifest.json', 'b/c/d/manifest.json']),
    ).toEqual(['a/index.json', 'b/c/manifest.json']);
    expect(roots(['a/index.json', 'b/manifest.json', 'ab/manifest.json'])).toEqual([
      'b/manifest.json',
      'ab/manifest.json',
    ]);
    expect(roots(['a/b/manifest.json', 'a/manifest.json', 'x.json'])).toEqual(['a/b/manifest.json', 'a/manifest.json']);
  });

  test('that lists none, or too many, is refused', () => {
    for (const names of [[], ['a/index.json'], ['xmanifest.json'], ['a/xmanifest.json']]) {
      expect(() => roots(names)).toThrow('it has neither an index.json nor a manifest.json');
    }
    expect(() => roots(['manifest.json'], { 'index.json': 'is a link' })).toThrow('"index.json" in it is a link');
    expect(() => roots([], { 'manifest.json': 'is a link' })).toThrow('"manifest.json" in it is a link');
    expect(roots(['index.json'], { 'manifest.json': 'is a link' })).toEqual(['index.json']);
    const many = (count: number) => Array.from({ length: count }, (_, at) => `${at}/manifest.json`);
    expect(roots(many(20_000))).toHaveLength(20_000);
    expect(() => roots(many(20_001))).toThrow('it has more than 20000 images');
  });

  test('has its documents read, each and all up to a limit', async () => {
    const archive = archiveOf({ a: Buffer.from('abc'), b: Buffer.from('de'), c: empty });
    const found = await readDocuments(archive, ['a', 'none', 'c', 'b'], { maxBytes: 3 });
    expect([...found].map(([name, bytes]) => [name, bytes.toString()])).toEqual([
      ['a', 'abc'],
      ['b', 'de'],
      ['c', ''],
    ]);
    expect((await readDocuments(archive, ['none'], { maxBytes: 3 })).size).toBe(0);
    await expect(readDocuments(archive, ['a'], { maxBytes: 2 })).rejects.toThrow(
      '"a" in it has 3 bytes, more than it may',
    );
    const all = (maxTotalBytes: number) =>
      Array.fromAsync(documents(archive, ['a', 'b'], { maxBytes: 9, maxTotalBytes }));
    expect(await all(5)).toHaveLength(2);
    await expect(all(4)).rejects.toThrow('its manifests have 5 bytes, more than they may');
    const large = archiveOf({
      a: Buffer.alloc(16 * 1024 * 1024),
      b: Buffer.alloc(16 * 1024 * 1024),
      c: Buffer.alloc(1),
    });
    expect((await readDocuments(large, ['a', 'b'], { maxBytes: 2 ** 30 })).size).toBe(2);
    await expect(readDocuments(large, ['a', 'b', 'c'], { maxBytes: 2 ** 30 })).rejects.toThrow('33554433 bytes');
  });

  test('leads from its lists to images, wherever they are in it', async () => {
    const one = localImage({ label: 'one' });
    const layout = layoutOf([{ manifest: one }]);
    const atTop = await readLists(archiveOf(layout), [{ list: 'index.json', prefix: '' }]);
    expect(atTop.images.map((image) => image.digest)).toEqual([one.digest]);
    expect([atTop.files.size, atTop.made.size, atTop.unreadable]).toEqual([0, 0, []]);
    expect(atTop.digest).toBe(digestOf(layout['index.json']!));

    const two = localImage({ label: 'two' });
    const hex = two.config.digest.slice(7);
    const files = {
      ...Object.fromEntries(Object.entries(layout).map(([name, bytes]) => [`l/${name}`, bytes])),
      'l/blobs/sha256/abc': empty,
      [`l/blobs/sha256/${one.digest.slice(7)}/x`]: empty,
      'f/manifest.json': two.bytes,
      [`f/${hex}`]: two.config.bytes,
      [`g/${hex}`]: empty,
    };
    const found = await readLists(archiveOf(files), rootsOf(archiveOf(files)));
    expect(found.images.map((image) => image.digest)).toEqual([one.digest, two.digest]);
    expect(found.files.get(one.digest)).toBe(`l/blobs/sha256/${one.digest.slice(7)}`);
    expect(found.files.get(two.digest)).toBe('f/manifest.json');
    expect(found.files.get(two.config.digest)).toBe(`f/${hex}`);
    expect(found.files.size).toBe(3 + 2);
    const lists = [layout['index.json']!, two.bytes].map((bytes) => digestOf(bytes));
    expect(found.digest).toBe(digestOf(Buffer.from(lists.join('\n'))));
    const folder = await readLists(archiveOf({ 'manifest.json': two.bytes, [hex]: two.config.bytes }), [
      { list: 'manifest.json', prefix: '' },
    ]);
    expect([...folder.files]).toEqual([
      [two.digest, 'manifest.json'],
      [two.config.digest, hex],
    ]);
    await expect(readLists(archiveOf({}), [{ list: 'index.json', prefix: 'x/' }])).rejects.toThrow(
      'it is cut short: it lacks "x/index.json"',
    );
  });
});
