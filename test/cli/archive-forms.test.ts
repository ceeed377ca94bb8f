import { mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { gzipSync, constants as zlib, zstdCompressSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { json } from '../support/client.ts';
import { type LocalImage, localArtifact, localBlob, localImage, localIndex, tarArchive } from '../support/images.ts';
import { fileOf, type LayoutFiles, layoutOf, named, writeFolder, writeTar } from '../support/layouts.ts';
import { expectServed, place, served } from './archive-place.ts';

const app = localImage({ label: 'app' });
const hexOf = ({ digest }: { digest: string }): string => digest.slice('sha256:'.length);
const tagged = (tag: string) => ({ 'org.opencontainers.image.ref.name': tag });
const signatureTag = (of: { digest: string }) => `sha256-${hexOf(of)}.sig`;

/** A file system of one file, packed as a layer of `docker save`. */
function savedImage({
  label,
  pack = (tar: Buffer) => tar,
  layer = 'layer.tar',
  config = 'config.json',
  diffId,
}: {
  label: string;
  pack?: (tar: Buffer) => Buffer;
  layer?: string;
  config?: string;
  diffId?: string;
}) {
  const tar = tarArchive({ 'etc/label': `${label}\n` });
  const packed = pack(tar);
  const body = {
    architecture: 'amd64',
    os: 'linux',
    rootfs: { type: 'layers', diff_ids: [diffId ?? localBlob(tar).digest] },
  };
  const bytes = Buffer.from(JSON.stringify(body));
  const entry = { Config: config, RepoTags: [`quay.io/org/${label}:1`], Layers: [layer] };
  return { entry, files: { [config]: bytes, [layer]: packed }, layer: localBlob(packed), config: localBlob(bytes) };
}

function savedFiles(...images: ReturnType<typeof savedImage>[]): LayoutFiles {
  return Object.assign(
    { 'manifest.json': Buffer.from(JSON.stringify(images.map(({ entry }) => entry))) },
    ...images.map(({ files }) => files),
  ) as LayoutFiles;
}

describe('an archive in the form of docker save', () => {
  test.each([
    ['crane, ko and kaniko', gzipSync, 'application/vnd.docker.image.rootfs.diff.tar.gzip'],
    ['a tool that packs with zstd', zstdCompressSync, 'application/vnd.docker.image.rootfs.diff.tar.zstd'],
    ['nix and docker', (tar: Buffer) => tar, 'application/vnd.docker.image.rootfs.diff.tar'],
  ])('of %s is taken in with its layers as they are', async (_, pack, mediaType) => {
    await using here = await place();
    const saved = savedImage({ label: 'app', pack, layer: 'sub/abc.tar.gz', config: 'sha256:cafe' });
    const done = await here.run('import', await writeTar(here.path('c.tar'), savedFiles(saved)));
    expect(done).toMatchObject({ code: 0, stderr: '', stdout: expect.stringContaining('quay.io/org/app:1') });
    await using site = await served(here.cacheDir);
    const manifest = json(await site.get('/v2/quay.io/org/app/manifests/1'));
    expect(manifest).toMatchObject({
      config: { digest: saved.config.digest },
      layers: [{ mediaType, digest: saved.layer.digest, size: saved.layer.size }],
    });
    const layer = await site.get(`/v2/quay.io/org/app/blobs/${saved.layer.digest}`);
    expect(layer.body.equals(saved.layer.bytes)).toBe(true);
  });

  test('refuses the image whose layer unpacks to other bytes, is damaged, or missing, and no other', async () => {
    await using here = await place();
    const good = savedImage({ label: 'good', pack: gzipSync, layer: 'good.tar.gz', config: 'good' });
    const other = savedImage({
      label: 'other',
      pack: gzipSync,
      layer: 'other.tar.gz',
      config: 'other',
      diffId: app.digest,
    });
    const cut = (tar: Buffer): Buffer => gzipSync(tar).subarray(0, -20);
    const damaged = savedImage({ label: 'damaged', pack: cut, layer: 'damaged.tar.gz', config: 'damaged' });
    const lacking = savedImage({ label: 'lacking', layer: 'lacking.tar', config: 'lacking' });
    const forged = savedImage({ label: 'forged', layer: 'forged.tar', config: 'forged', diffId: app.digest });
    const files = savedFiles(good, other, damaged, lacking, forged);
    delete files['lacking.tar'];
    const done = await here.run('import', await writeTar(here.path('c.tar'), files));
    expect(done).toMatchObject({ code: 1, stderr: 'millpond: c.tar: 4 of its images were refused\n' });
    expect(done.stdout).toContain('quay.io/org/good:1 sha256:');
    expect(done.stdout).toContain(
      'refused quay.io/org/other:1: the bytes that "other.tar.gz" in it unpacks to are other ones',
    );
    expect(done.stdout).toContain('refused quay.io/org/damaged:1: "damaged.tar.gz" in it is damaged or cut short\n');
    expect(done.stdout).toContain(
      'refused quay.io/org/lacking:1: it lacks "lacking.tar", which its manifest.json names\n',
    );
    expect(done.stdout).toMatch(/refused quay\.io\/org\/forged:1: .*: the bytes of sha256:\S+ are other ones than its/);
  });

  test('tells by their bytes which of two files a layer is', async () => {
    await using here = await place();
    const good = savedImage({ label: 'good', layer: 'good.tar', config: 'good' });
    const diffId = good.layer.digest;
    const pack = (tar: Buffer): Buffer => Buffer.concat([tar, Buffer.alloc(512)]);
    const forged = savedImage({ label: 'forged', pack, layer: 'forged.tar', config: 'forged', diffId });
    const done = await here.run('import', await writeTar(here.path('c.tar'), savedFiles(good, forged)));
    expect(done).toMatchObject({ code: 1, stderr: expect.stringContaining('quay.io/org/forged:1') });
    expect(done.stdout).toContain('quay.io/org/good:1 sha256:');
  });
});

describe('an image layout', () => {
  test('of oras: tags, and what refers to them, without a registry', async () => {
    await using here = await place();
    const index = localIndex('multi', ['amd64', 'arm64']);
    const [sbom, nested] = [
      localArtifact({ artifactType: 'application/spdx+json', subject: index }),
      localImage({ label: 'none' }),
    ];
    const signature = localArtifact({ artifactType: 'application/x-signature', subject: sbom });
    // It lists every manifest that was written, also those that an index names.
    const files = layoutOf([
      { manifest: index, annotations: tagged('1') },
      { manifest: app, annotations: tagged('2') },
      ...[...index.manifests, sbom, signature, nested].map((manifest) => ({ manifest })),
    ]);
    const tar = await writeTar(here.path('b.tar'), files);
    const unnamed = await here.run('import', tar);
    expect(unnamed).toMatchObject({ code: 1, stderr: expect.stringContaining('say it with --name') });
    const done = await here.run('import', tar, '--name', 'docker.io/library/app');
    expect(done).toMatchObject({ code: 0, stderr: '', stdout: expect.stringContaining('3 images with 2 attachments') });
    await using site = await served(here.cacheDir);
    await expectServed(site, 'docker.io/library/app', index, '1');
    await expectServed(site, 'docker.io/library/app', app, '2');
    await expectServed(site, 'docker.io/library/app', nested);
    expect(json(await site.get('/v2/docker.io/library/app/tags/list'))).toMatchObject({ tags: ['1', '2'] });
    for (const [subject, referrer] of [
      [index, sbom],
      [sbom, signature],
    ] as const) {
      const listed = json(await site.get(`/v2/docker.io/library/app/referrers/${subject.digest}`));
      expect(listed).toMatchObject({ manifests: [{ digest: referrer.digest }] });
    }
  });

  test('puts what refers to an image into the repository of that', async () => {
    await using here = await place();
    const other = localImage({ label: 'other' });
    const sbom = localArtifact({ artifactType: 'application/spdx+json', subject: app });
    const files = layoutOf([
      { manifest: other, annotations: named('quay.io/org/other:1') },
      { manifest: app, annotations: named('docker.io/library/app:1') },
      { manifest: sbom },
    ]);
    expect(await here.run('import', await writeTar(here.path('a.tar'), files))).toMatchObject({ code: 0, stderr: '' });
    await using site = await served(here.cacheDir);
    await expectServed(site, 'docker.io/library/app', sbom);
    expect((await site.get(`/v2/quay.io/org/other/manifests/${sbom.digest}`)).status).toBe(404);
  });

  test.each([
    ['cosign', 'dev.cosignproject.cosign'],
    ['hauler', 'dev.hauler'],
  ])('of %s: image and signatures of one name, told apart by their kind', async (_, vendor) => {
    await using here = await place();
    const signature = localArtifact({ artifactType: 'application/x-signature' });
    const attestation = localArtifact({ artifactType: 'application/x-attestation' });
    const entry = (kind: string) => ({ ...tagged('index.docker.io/library/app:1'), kind: `${vendor}/${kind}` });
    const files = layoutOf([
      { manifest: app, annotations: entry('image') },
      { manifest: signature, annotations: entry('sigs') },
      { manifest: attestation, annotations: entry('atts') },
    ]);
    const done = await here.run('import', await writeTar(here.path('a.tar'), files));
    expect(done).toMatchObject({ code: 0, stderr: '', stdout: expect.stringContaining('1 image with 2 attachments') });
    await using site = await served(here.cacheDir);
    await expectServed(site, 'docker.io/library/app', app, '1');
    await expectServed(site, 'docker.io/library/app', signature, signatureTag(app));
    await expectServed(site, 'docker.io/library/app', attestation, signatureTag(app).replace('.sig', '.att'));
  });

  test('with two images of one name takes neither in, and says which they are', async () => {
    await using here = await place();
    const other = localImage({ label: 'other' });
    const files = layoutOf([
      { manifest: app, annotations: named('docker.io/library/app:1') },
      { manifest: other, annotations: named('index.docker.io/library/app:1') },
      { manifest: other, annotations: named('docker.io/library/other:1') },
    ]);
    const done = await here.run('import', await writeTar(here.path('a.tar'), files));
    const sentence = `docker.io/library/app:1: it has 2 images by this name and does not say which is meant: ${app.digest}, ${other.digest}`;
    expect(done).toMatchObject({ code: 1, stderr: `millpond: a.tar: ${sentence}\n` });
    await using site = await served(here.cacheDir);
    await expectServed(site, 'docker.io/library/other', other, '1');
    expect((await site.get('/v2/docker.io/library/app/manifests/1')).status).toBe(404);
  });

  test('with a damaged manifest, an entry that is none, or a registry that is not configured lacks those images alone', async () => {
    await using here = await place();
    const [damaged, good] = [localImage({ label: 'damaged' }), localImage({ label: 'good' })];
    const files = layoutOf([
      { manifest: damaged, annotations: named('docker.io/library/damaged:1') },
      { manifest: app, annotations: named('registry.example/app:1') },
      { manifest: good, annotations: named('docker.io/library/good:1') },
    ]);
    const flipped = Buffer.from(damaged.bytes);
    flipped[flipped.length - 1] = flipped.at(-1)! ^ 1;
    files[fileOf(damaged)] = flipped;
    const parsed = JSON.parse(files['index.json']!.toString()) as { manifests: object[] };
    parsed.manifests.push({ digest: 'none' });
    files['index.json'] = Buffer.from(JSON.stringify(parsed));
    const done = await here.run('import', await writeTar(here.path('a.tar'), files));
    expect(done).toMatchObject({ code: 1, stderr: 'millpond: a.tar: 3 of its images were refused\n' });
    expect(done.stdout).toContain('docker.io/library/good:1 sha256:');
    expect(done.stdout).toMatch(
      /refused docker\.io\/library\/damaged:1: .*: the bytes of the manifest sha256:\S+ are other ones/,
    );
    expect(done.stdout).toContain('refused registry.example/app:1: ');
    expect(done.stdout).toContain('refused entry 4 of its index.json: its index.json names no digest\n');
    await using site = await served(here.cacheDir);
    await expectServed(site, 'docker.io/library/good', good, '1');
  });

  test('in a folder within the archive', async () => {
    await using here = await place();
    const files = layoutOf([{ manifest: app, annotations: named('docker.io/library/app:1') }]);
    const within = Object.fromEntries(Object.entries(files).map(([name, bytes]) => [`./some/folder/${name}`, bytes]));
    expect(await here.run('import', await writeTar(here.path('a.tar'), within))).toMatchObject({ code: 0, stderr: '' });
    await using site = await served(here.cacheDir);
    await expectServed(site, 'docker.io/library/app', app, '1');
  });

  test('beside members that no image names: their names, kinds and number do not matter', async () => {
    await using here = await place();
    const files = layoutOf([{ manifest: app, annotations: named('docker.io/library/app:1') }]);
    const stray = { '/absolute': 'a', '../outside': 'b', '._index.json': 'c', twice: 'd' };
    const whole = Buffer.concat([
      tarArchive(stray).subarray(0, -1024),
      retyped(tarArchive({ device: '' }), '3').subarray(0, -1024),
      retyped(tarArchive({ volume: '' }), 'V').subarray(0, -1024),
      retyped(tarArchive({ sparse: 'x' }), 'S').subarray(0, -1024),
      tarArchive({ twice: 'other', ...files }),
    ]);
    await writeFile(here.path('a.tar'), whole);
    expect(await here.run('import', here.path('a.tar'))).toMatchObject({ code: 0, stderr: '' });
    await using site = await served(here.cacheDir);
    await expectServed(site, 'docker.io/library/app', app, '1');
  });

  test('with a blob that is stored sparsely says so of the image that names it', async () => {
    await using here = await place();
    const files = layoutOf([
      { manifest: app, annotations: named('docker.io/library/app:1') },
      { manifest: localImage({ label: 'good' }), annotations: named('docker.io/library/good:1') },
    ]);
    const layer = fileOf(app.blobs[1]!);
    const { [layer]: bytes, ...rest } = files;
    const sparse = retyped(tarArchive({ [layer]: bytes! }), 'S').subarray(0, -1024);
    await writeFile(here.path('a.tar'), Buffer.concat([sparse, tarArchive(rest)]));
    const done = await here.run('import', here.path('a.tar'));
    expect(done).toMatchObject({ code: 1, stderr: expect.stringMatching(/docker\.io\/library\/app:1 .* sparse file/) });
    expect(done.stdout).toContain('docker.io/library/good:1 sha256:');
  });
});

/** The first entry of a tar archive as another type. */
function retyped(tar: Buffer, type: string): Buffer {
  tar.write('        ', 148);
  tar.write(type, 156);
  const sum = tar.subarray(0, 512).reduce((total, byte) => total + byte, 0);
  tar.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return tar;
}

describe('folders as skopeo makes them', () => {
  const folderOf = (image: LocalImage): LayoutFiles => ({
    version: Buffer.from('Directory Transport Version: 1.1\n'),
    'manifest.json': image.bytes,
    ...Object.fromEntries(image.blobs.map((blob) => [hexOf(blob), blob.bytes])),
  });

  test('of one image, or of an index with its manifests', async () => {
    await using here = await place();
    const index = localIndex('multi', ['amd64', 'arm64']);
    const files: LayoutFiles = { version: Buffer.from('x'), 'manifest.json': index.bytes };
    for (const child of index.manifests) {
      files[`${hexOf(child)}.manifest.json`] = child.bytes;
      for (const blob of child.blobs) files[hexOf(blob)] = blob.bytes;
    }
    for (const [name, content] of [
      ['one', folderOf(app)],
      ['index', files],
    ] as const) {
      const folder = await writeFolder(here.path(name), content);
      expect(await here.run('import', folder)).toMatchObject({ code: 1, stderr: expect.stringContaining('--name') });
      expect(await here.run('import', folder, '--name', `docker.io/library/${name}:1`)).toMatchObject({
        code: 0,
        stderr: '',
      });
    }
    await using site = await served(here.cacheDir);
    await expectServed(site, 'docker.io/library/one', app, '1');
    await expectServed(site, 'docker.io/library/index', index, '1');
  });

  test('of many images, called after them', async () => {
    await using here = await place();
    const other = localImage({ label: 'other' });
    const folders = { 'docker.io/library/app:1': app, 'quay.io/org/deep/other:2': other };
    for (const [name, image] of Object.entries(folders)) {
      await mkdir(dirname(here.path(`sync/${name}`)), { recursive: true });
      await writeFolder(here.path(`sync/${name}`), folderOf(image));
    }
    expect(await here.run('import', here.path('sync'))).toMatchObject({ code: 0, stderr: '' });
    await using site = await served(here.cacheDir);
    await expectServed(site, 'docker.io/library/app', app, '1');
    await expectServed(site, 'quay.io/org/deep/other', other, '2');
  });

  test('without the registry in their names: in the repository that is given', async () => {
    await using here = await place();
    await writeFolder(here.path('sync/app:1'), folderOf(app));
    await writeFolder(here.path('sync/app:2'), folderOf(localImage({ label: 'other' })));
    expect(await here.run('import', here.path('sync'))).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('"1"'),
    });
    const done = await here.run('import', here.path('sync'), '--name', 'docker.io/library/app');
    expect(done).toMatchObject({ code: 0, stderr: '', stdout: expect.stringContaining('2 images') });
    await using site = await served(here.cacheDir);
    await expectServed(site, 'docker.io/library/app', app, '1');
  });
});

describe('import', () => {
  test('reads an archive from standard input, plain and compressed, and leaves nothing of it', async () => {
    await using here = await place();
    const tar = tarArchive(layoutOf([{ manifest: app, annotations: named('docker.io/library/app:1') }]));
    for (const bytes of [tar, gzipSync(tar)]) {
      expect(await here.pipe(bytes, 'import', '-')).toMatchObject({ code: 0, stderr: '' });
    }
    expect(await here.pipe(tar.subarray(0, 700), 'import', '-')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('cut short'),
    });
    expect(await here.pipe(tar, 'import', '-', here.path('b.tar'))).toMatchObject({ code: 2 });
    await using site = await served(here.cacheDir);
    await expectServed(site, 'docker.io/library/app', app, '1');
  });

  test('reads an archive with a zstd window beyond 128 MiB where there is memory for it', async () => {
    await using here = await place();
    const params = { [zlib.ZSTD_c_windowLog]: 28, [zlib.ZSTD_c_contentSizeFlag]: 0 };
    const padding = { padding: Buffer.alloc(2 ** 27 + 2 ** 20) };
    const tar = tarArchive({
      ...padding,
      ...layoutOf([{ manifest: app, annotations: named('docker.io/library/app:1') }]),
    });
    await writeFile(here.path('a.tar.zst'), zstdCompressSync(tar, { params }));
    const before = process.availableMemory();
    const done = await here.run('import', here.path('a.tar.zst'));
    const after = process.availableMemory();
    const taken = { code: 0, stderr: '' };
    const refused = { code: 1, stderr: expect.stringContaining('zstd window that is too large') as string };
    // Eight times the window has to be free when it is read, which may be less or more than before and after that.
    const needed = 8 * 2 ** 28;
    const isEnough =
      Math.min(before, after) > 1.25 * needed || (Math.max(before, after) > 0.75 * needed && done.code === 0);
    expect(done).toMatchObject(isEnough ? taken : refused);
  });

  test('says which tags are new, newer and going back, and at a dry run changes nothing', async () => {
    await using here = await place();
    const [first, second] = [dated('first', '2026-01-01T00:00:00Z'), dated('second', '2026-02-01T00:00:00Z')];
    const archive = async (file: string, image: LocalImage): Promise<string> =>
      await writeTar(
        here.path(file),
        layoutOf([{ manifest: image, annotations: named('docker.io/library/app:latest') }]),
      );
    const [older, newer] = [await archive('older.tar', first), await archive('newer.tar', second)];
    const short = ({ digest }: LocalImage): string => `${digest.slice(0, 19)}…`;
    const lineOf = async (file: string): Promise<string> => {
      const told = await here.run('import', file, '--dry-run');
      expect(told).toMatchObject({ code: 0, stderr: '' });
      return told.stdout.split('\n')[1]!.replaceAll(/ +/g, ' ');
    };
    expect(await lineOf(older)).toBe(`docker.io/library/app:latest ${short(first)} new`);
    expect(await here.run('ls')).toMatchObject({ code: 1, stderr: expect.stringContaining('there is no cache') });
    await here.run('import', older);
    expect(await lineOf(newer)).toBe(`docker.io/library/app:latest ${short(second)} newer now ${short(first)}`);
    expect((await here.run('import', newer)).stdout).toContain(`${short(second)} (was ${short(first)}, newer)\n`);
    expect(await lineOf(newer)).toBe(`docker.io/library/app:latest ${short(second)} as it is`);
    expect(await lineOf(older)).toBe(`docker.io/library/app:latest ${short(first)} going back now ${short(second)}`);
    expect((await here.run('import', older)).stdout).toContain(`${short(first)} (was ${short(second)}, going back)\n`);
    const told = await here.run('import', newer, '--dry-run', '--json');
    expect(JSON.parse(told.stdout.split('\n')[0]!)).toEqual({
      kind: 'foreseen',
      isAttachment: false,
      name: 'docker.io/library/app:latest',
      digest: second.digest,
      change: 'newer',
      before: first.digest,
    });
  });
});

/** An image of which the config says when it was made. */
function dated(label: string, created: string): LocalImage {
  const image = localImage({ label });
  const config = localBlob(
    JSON.stringify({ ...JSON.parse(image.config.bytes.toString()), created }),
    image.config.mediaType,
  );
  const body = JSON.parse(image.bytes.toString()) as { config: object };
  const { mediaType, digest, size } = config;
  const manifest = localBlob(JSON.stringify({ ...body, config: { mediaType, digest, size } }), image.mediaType);
  return { ...manifest, config, blobs: [config, image.blobs[1]!], manifests: [] };
}
