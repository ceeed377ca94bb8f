import { gzipSync, zstdCompressSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { readContent } from '../../src/archive/archived-content.ts';
import { writeDescription } from '../../src/archive/description.ts';
import { readDockerSave, readManifestFile } from '../../src/archive/docker-save.ts';
import { measureLayers, settleClaims } from '../../src/archive/saved-layers.ts';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { dockerManifest } from '../../src/oci/media-types.ts';
import { archiveOf } from '../support/archive-in-memory.ts';
import { localArtifact, localBlob, localImage, localIndex } from '../support/images.ts';
import { fileOf, type LayoutFiles, layoutOf, named } from '../support/layouts.ts';

const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
const plain = Buffer.from('the bytes of a layer');
const configOf = (...layers: readonly (Buffer | string)[]): Buffer =>
  json({ rootfs: { diff_ids: layers.map((layer) => (typeof layer === 'string' ? layer : digestOf(layer))) } });

describe('an archive of docker save', () => {
  const config = configOf(plain, plain, plain);
  const files: LayoutFiles = {
    'c.json': config,
    'plain.tar': plain,
    'gzip.tar': gzipSync(plain),
    'zstd.tar': zstdCompressSync(plain),
  };
  const entry = { Config: 'c.json', Layers: ['./plain.tar', 'gzip.tar', 'zstd.tar'], RepoTags: ['x:1', 'quay.io/y:2'] };
  const read = (list: unknown[], more: LayoutFiles = {}, unreadable = {}) =>
    readDockerSave(archiveOf({ ...files, ...more }, unreadable), '', list);
  const reasonOf = async (...args: Parameters<typeof read>) => {
    const { images, unreadable } = await read(...args);
    expect(images).toEqual([]);
    return unreadable.map(({ name, reason }) => `${name}: ${reason}`);
  };

  test('has a manifest made for each image, with its layers as they are', async () => {
    const { images, made, files: found, unreadable } = await read([entry]);
    const manifest = json({
      schemaVersion: 2,
      mediaType: dockerManifest,
      config: {
        mediaType: 'application/vnd.docker.container.image.v1+json',
        size: config.length,
        digest: digestOf(config),
      },
      layers: [
        ['', plain],
        ['.gzip', files['gzip.tar']!],
        ['.zstd', files['zstd.tar']!],
      ].map(([suffix, bytes]) => ({
        mediaType: `application/vnd.docker.image.rootfs.diff.tar${String(suffix)}`,
        size: bytes!.length,
        digest: digestOf(bytes as Buffer),
      })),
    });
    const digest = digestOf(manifest);
    expect(String(made.get(digest))).toBe(String(manifest));
    const image = { digest, mediaType: dockerManifest, size: manifest.length, isAttachment: false };
    expect(images).toEqual([
      { ...image, name: { kind: 'full', name: 'docker.io/library/x:1' } },
      { ...image, name: { kind: 'full', name: 'quay.io/y:2' } },
    ]);
    expect(unreadable).toEqual([]);
    expect(new Map(found)).toEqual(
      new Map([
        [digestOf(config), 'c.json'],
        ...['plain.tar', 'gzip.tar', 'zstd.tar'].map((name): [Digest, string] => [digestOf(files[name]!), name]),
      ]),
    );
  });

  test('may be in a folder, and name an image not at all', async () => {
    const moved = Object.fromEntries(Object.entries(files).map(([name, bytes]) => [`f/${name}`, bytes]));
    for (const RepoTags of [null, [], undefined, [1]]) {
      const { images } = await readDockerSave(archiveOf(moved), 'f/', [{ ...entry, RepoTags }]);
      expect(images.map(({ name }) => name)).toEqual([{ kind: 'none' }]);
    }
  });

  test('may have an image without layers', async () => {
    const { images } = await read([{ Config: 'e.json', Layers: [] }], { 'e.json': json({ rootfs: {} }) });
    expect(images).toHaveLength(1);
  });

  test('says what is wrong with one image, by its name, and reads the others', async () => {
    const tagged = { ...entry, RepoTags: ['t:1'] };
    expect(await reasonOf([{ ...tagged, Config: 1 }])).toEqual(['t:1: its manifest.json names no config']);
    expect(await reasonOf([1])).toEqual(['entry 1 of its manifest.json: its manifest.json names no config']);
    const noLayers = 'its manifest.json names no layers, or too many';
    expect(await reasonOf([{ Config: 'c.json' }])).toEqual([`entry 1 of its manifest.json: ${noLayers}`]);
    const many = (count: number) => ({ ...tagged, Layers: Array.from({ length: count }, () => 'plain.tar') });
    expect(await reasonOf([many(1001)])).toEqual([`t:1: ${noLayers}`]);
    expect(await reasonOf([many(1000)])).toEqual(['t:1: "c.json" in it has 3 layers, and manifest.json 1000']);
    expect(await reasonOf([{ ...tagged, Config: 'no.json' }])).toEqual([
      't:1: it lacks "no.json", which its manifest.json names',
    ]);
    expect(await reasonOf([{ ...tagged, Layers: [1, 'plain.tar', 'gzip.tar'] }], { 1: plain })).toEqual([
      't:1: it lacks "1", which its manifest.json names',
    ]);
    expect(await reasonOf([{ ...tagged, Layers: ['a/l.tar'] }], {}, { 'a/l.tar': 'is a link' })).toEqual([
      't:1: "a/l.tar" in it is a link',
    ]);
    expect(await reasonOf([{ ...tagged, RepoTags: [], Layers: [] }])).toEqual([
      'c.json: "c.json" in it has 3 layers, and manifest.json 0',
    ]);
    const { images, unreadable } = await read([{ ...tagged, Config: 1 }, entry]);
    expect([images.length, unreadable.length]).toEqual([2, 1]);
  });

  test('holds each layer against what the config says', async () => {
    const image = (layer: string) => [{ Config: 'one.json', Layers: [layer], RepoTags: ['t:1'] }];
    const one = { 'one.json': configOf(plain) };
    const other = gzipSync('other bytes');
    expect(await reasonOf(image('l'), { ...one, l: other })).toEqual([
      't:1: the bytes that "l" in it unpacks to are other ones than its config says',
    ]);
    expect(await reasonOf(image('l'), { ...one, l: other.subarray(0, 20) })).toEqual([
      't:1: "l" in it is damaged or cut short',
    ]);
    expect(await reasonOf(image('l'), { ...one, l: Buffer.from('425a683931415926', 'hex') })).toEqual([
      't:1: "l" in it is compressed with xz or bzip2: unpack it first',
    ]);
    const long = { 'one.json': configOf(digestOf(plain, 'sha512')), l: gzipSync(plain) };
    expect((await read(image('l'), long)).images).toHaveLength(1);
    for (const id of ['sha256:1', 'x'] as const) {
      expect(await reasonOf(image('plain.tar'), { 'one.json': configOf(id) })).toEqual([
        't:1: "one.json" in it names a layer without a digest',
      ]);
    }
    expect(await reasonOf(image('plain.tar'), { 'one.json': json({ rootfs: { diff_ids: [1] } }) })).toEqual([
      't:1: "one.json" in it names a layer without a digest',
    ]);
    expect(await reasonOf(image('plain.tar'), { 'one.json': Buffer.from('x') })).toEqual([
      't:1: "one.json" in it is not JSON',
    ]);
    expect(await reasonOf(image('plain.tar'), { 'one.json': json({}) })).toEqual([
      't:1: "one.json" in it has 0 layers, and manifest.json 1',
    ]);
  });

  test('has up to 20,000 images with 100,000 layers in all', async () => {
    const tooMany = 'its manifest.json names too many images or layers';
    await expect(read([])).rejects.toThrow('its manifest.json names no images');
    await expect(read(Array.from({ length: 20_001 }, () => 1))).rejects.toThrow(tooMany);
    expect((await read(Array.from({ length: 20_000 }, () => 1))).unreadable).toHaveLength(20_000);
    const layers = (count: number) => ({ Layers: Array.from({ length: count }, () => 1) });
    expect((await read([layers(50_000), layers(50_000)])).unreadable).toHaveLength(2);
    await expect(read([layers(50_000), layers(50_001)])).rejects.toThrow(tooMany);
  });

  test('has configs of 4 MiB at most', async () => {
    const padded = (length: number) => ({ 'c.json': Buffer.alloc(length, ' ') });
    await expect(read([entry], padded(4 * 1024 * 1024 + 1))).rejects.toThrow('has 4194305 bytes, more than it may');
    expect(await reasonOf([entry], padded(4 * 1024 * 1024))).toEqual(['x:1: "c.json" in it is not JSON']);
  });

  test('has a list in its manifest.json, unlike the folder of one image', () => {
    expect(readManifestFile(json([1]), 'x')).toEqual([1]);
    expect(readManifestFile(json({}), 'x')).toBeUndefined();
  });
});

describe('the layers of an archive', () => {
  test('are measured as they are and unpacked', async () => {
    const packed = gzipSync(plain);
    const archive = archiveOf({ packed, plain, empty: Buffer.alloc(0), other: plain });
    const unpacked = [digestOf(plain), digestOf(plain, 'sha512')];
    expect([...(await measureLayers(archive, new Set(['packed', 'plain', 'empty'])))]).toEqual([
      ['packed', { size: packed.length, compression: 'gzip', packed: { digest: digestOf(packed), unpacked } }],
      ['plain', { size: plain.length, compression: 'none', packed: undefined }],
      ['empty', { size: 0, compression: 'none', packed: undefined }],
    ]);
  });

  test('fail with the archive, where that cannot be read', async () => {
    const packed = gzipSync(Buffer.alloc(100_000, 'abcdefg'));
    const failure = new Error('the archive fails');
    async function* body() {
      yield packed.subarray(0, 50);
      throw failure;
    }
    const archive = {
      ...archiveOf({ packed }),
      visit: async function* () {
        yield { name: 'packed', size: packed.length, body: body() };
      },
    };
    await expect(measureLayers(archive, new Set(['packed']))).rejects.toBe(failure);
  });

  test('that are claimed to be the same one are told by their bytes', async () => {
    const archive = archiveOf({ a: Buffer.from('a'), b: Buffer.from('b'), c: Buffer.from('c') });
    const [a, b, x] = ['a', 'b', 'x'].map((text) => digestOf(Buffer.from(text))) as [Digest, Digest, Digest];
    const long = digestOf(Buffer.from('b'), 'sha512');
    const settled = await settleClaims(
      archive,
      new Map([
        [a, new Set(['b', 'a', 'c'])],
        [b, new Set(['c'])],
        [long, new Set(['a', 'b'])],
        [x, new Set(['c', 'b'])],
      ]),
    );
    expect(new Map(settled)).toEqual(
      new Map([
        [a, 'a'],
        [b, 'c'],
        [long, 'b'],
        [x, 'c'],
      ]),
    );
  });
});

describe('the content of an archive', () => {
  const image = localImage({ label: 'x' });
  const [, layer] = image.blobs;
  const layout = (...manifests: Parameters<typeof layoutOf>[0][number]['manifest'][]): LayoutFiles =>
    layoutOf(manifests.map((manifest, at) => ({ manifest, annotations: named(`docker.io/library/x:${at}`) })));
  const read = (files: LayoutFiles, unreadable = {}) => readContent(archiveOf(files, unreadable));

  test('is what its images name and it has', async () => {
    const index = localIndex('y', ['amd64', 'arm64']);
    const signature = localArtifact({ subject: image });
    const files: LayoutFiles = { ...layout(index, image, signature), 'blobs/sha256/else': plain };
    const content = await read(files);
    const manifests = [index, image, signature, ...index.manifests].map(({ digest, size }) => ({
      digest,
      size,
      from: fileOf({ digest }),
    }));
    expect(content.manifests).toEqual(expect.arrayContaining(manifests));
    expect(content.manifests).toHaveLength(5);
    const blobs = new Map(
      [index, image, signature, ...index.manifests].flatMap(({ blobs: all }) => all).map((blob) => [blob.digest, blob]),
    );
    expect(content.blobs.map(({ digest }) => digest).toSorted()).toEqual([...blobs.keys()].toSorted());
    expect(content.blobs.find(({ digest }) => digest === layer!.digest)).toEqual({
      digest: layer!.digest,
      size: layer!.size,
      from: fileOf(layer!),
    });
    expect(content.links.get(index.digest)).toEqual({
      manifests: index.manifests.map(({ digest }) => digest),
      blobs: [],
      subject: undefined,
    });
    expect(content.links.get(signature.digest)?.subject).toBe(image.digest);
    expect(content.links.get(image.digest)?.blobs).toEqual(image.blobs.map(({ digest }) => digest));
    expect([content.wrong.size, content.damaged.size, content.description]).toEqual([0, 0, undefined]);
    expect(content.id).toBe(digestOf(files['index.json']!));
    expect(content.images).toHaveLength(3);
  });

  test('lacks what is not there, without a word', async () => {
    const index = localIndex('x', ['amd64', 'arm64']);
    const files = layout(index);
    const [amd, arm] = index.manifests;
    delete files[fileOf(arm!)];
    delete files[fileOf(amd!.blobs[1]!)];
    const content = await read(files);
    expect(content.manifests.map(({ digest }) => digest)).toEqual([index.digest, amd!.digest]);
    expect(content.links.get(amd!.digest)?.blobs).toEqual([amd!.blobs[0]!.digest]);
    expect(content.links.get(index.digest)?.manifests).toEqual([amd!.digest, arm!.digest]);
    expect(content.wrong.size).toBe(0);
  });

  test('is wrong where bytes are other ones than a digest says, or are no manifest', async () => {
    const files = layout(image);
    files[fileOf(image)] = Buffer.alloc(image.size, 'x');
    const damaged = await read(files);
    const sentence = `the bytes of the manifest ${image.digest} are other ones than its digest says`;
    expect([...damaged.wrong, ...damaged.damaged]).toEqual([[image.digest, sentence], image.digest]);
    expect(damaged.manifests).toEqual([]);

    const none = { ...image, ...localBlob('{}', image.mediaType) };
    const wrong = await read(layout(none));
    expect([...wrong.wrong]).toEqual([[none.digest, `what it has as the manifest ${none.digest} is none`]]);
    expect([wrong.damaged.size, wrong.manifests]).toEqual([0, []]);
    const long = { ...image, ...localBlob(image.bytes, image.mediaType, 'sha512') };
    expect((await read(layout(long))).manifests.map(({ digest }) => digest)).toEqual([long.digest]);
  });

  test('is wrong where a manifest has more than 4 MiB', async () => {
    const body = (length: number) => {
      const start = JSON.stringify({ schemaVersion: 2, layers: [], x: '' }).slice(0, -2);
      return {
        ...image,
        ...localBlob(`${start}${' '.repeat(length - start.length - 2)}"}`, image.mediaType),
        blobs: [],
      };
    };
    const [most, more] = [4 * 1024 * 1024, 4 * 1024 * 1024 + 1].map(body);
    const content = await read(layout(most!, more!));
    expect(content.manifests.map(({ digest }) => digest)).toEqual([most!.digest]);
    expect([...content.wrong]).toEqual([
      [more!.digest, `the manifest ${more!.digest} has 4194305 bytes, more than it may`],
    ]);
  });

  test('is read once, however often it is named', async () => {
    const index = localIndex('y', ['amd64']);
    const files = layout(index, index);
    const visited: string[] = [];
    const archive = archiveOf(files);
    const { manifests } = await readContent({
      ...archive,
      visit: (names) => {
        visited.push(...names);
        return archive.visit(names);
      },
    });
    expect(manifests).toHaveLength(2);
    expect(visited.filter((name) => name.startsWith('blobs/'))).toHaveLength(2);
  });

  test('is in doubt where a manifest gives another size, unless another manifest is right about it', async () => {
    const config = localBlob('{}', 'application/x');
    const claim = (size: number) => localArtifact({ config, layers: [{ ...layer!, size }] });
    const doubted = await read(layout(claim(1)));
    expect(doubted.blobs.map(({ digest }) => digest)).toEqual([config.digest]);
    expect([...doubted.wrong.keys()]).toEqual([layer!.digest]);
    const right = await read(layout(claim(1), image));
    expect(right.blobs.map(({ digest }) => digest)).toContain(layer!.digest);
    expect(right.links.get(claim(1).digest)?.blobs).toEqual([config.digest]);
  });

  test('says why something in it cannot be read', async () => {
    const files = layout(image);
    delete files[fileOf(layer!)];
    const { wrong, blobs } = await read(files, { [fileOf(layer!)]: 'is a link' });
    expect([...wrong]).toEqual([
      [layer!.digest, `"${fileOf(layer!)}" in it is a link`.replace(/"(.{117}).{4,}" /, '"$1..." ')],
    ]);
    expect(blobs).toHaveLength(1);
  });

  test('must be whole where it says so and builds upon nothing', async () => {
    const files = layout(image);
    const complete = [image, ...image.blobs].map(({ digest }) => digest);
    const described = (base: Digest | undefined, more: Digest[] = []) => {
      const parts = { index: digestOf(files['index.json']!), base, needs: [], complete: [...complete, ...more] };
      const { bytes, id } = writeDescription(parts);
      return { id, files: { ...files, 'millpond.json': bytes } };
    };
    const whole = described(undefined);
    const content = await read(whole.files);
    expect([content.id, content.description?.complete.length]).toEqual([whole.id, 3]);
    const other = digestOf(plain);
    await expect(read(described(undefined, [other]).files)).rejects.toThrow(
      `it is not whole: it lacks 1 of its 4 blobs, such as ${other}`,
    );
    expect((await read(described(other, [other]).files)).description?.base).toBe(other);
    // Only an image layout has a description: anything else is not ours.
    const saved = {
      'manifest.json': json([{ Config: 'c', Layers: [] }]),
      c: json({ rootfs: {} }),
      'millpond.json': Buffer.from('x'),
    };
    expect((await read(saved)).description).toBeUndefined();
  });

  test('has the manifests that are made of what docker save says', async () => {
    const files = { c: configOf(plain), l: plain };
    const content = await read({
      'manifest.json': json([{ Config: 'c', Layers: ['l'], RepoTags: ['x:1'] }]),
      ...files,
    });
    const [manifest] = content.manifests;
    expect(Buffer.isBuffer(manifest?.from)).toBe(true);
    expect(content.blobs.map(({ from }) => String(from)).toSorted()).toEqual(['c', 'l']);
  });
});
