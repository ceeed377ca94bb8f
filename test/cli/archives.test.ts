import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { lstat, mkdir, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { blobFile, filesIn } from '../mirror/support.ts';
import { json } from '../support/client.ts';
import { runBinaryCommand } from '../support/commands.ts';
import {
  type LocalBlob,
  type LocalManifest,
  localArtifact,
  localBlob,
  localImage,
  localIndex,
  localReferrers,
  tarArchive,
} from '../support/images.ts';
import {
  fileOf,
  type LayoutFiles,
  type LayoutImage,
  layoutOf,
  named,
  writeFolder,
  writeTar,
} from '../support/layouts.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite } from '../support/site.ts';
import { expectServed, place, served } from './archive-place.ts';
import { launcher, run } from './spawn.ts';

const index = localIndex('two platforms', ['amd64', 'arm64']);
const alpine = localImage({ label: 'alpine', mediaTypes: 'docker' });
const images: LayoutImage[] = [
  { manifest: index, annotations: named('docker.io/library/nginx:1.27') },
  { manifest: alpine, annotations: named('quay.io/org/alpine:3') },
];

describe('import', () => {
  test.each([
    ['a plain tar archive', (bytes: Buffer) => bytes],
    ['one compressed with gzip', (bytes: Buffer) => gzipSync(bytes)],
    ['one compressed with zstd', (bytes: Buffer) => zstdCompressSync(bytes)],
  ])('takes in %s, and all of it can be pulled offline', async (_, pack) => {
    await using here = await place();
    await writeFile(here.path('a.tar'), pack(tarArchive(layoutOf(images))));
    const done = await here.run('import', here.path('a.tar'));
    expect(done).toMatchObject({ code: 0, stderr: '' });
    expect(done.stdout).toContain('docker.io/library/nginx:1.27');
    const listed = (await here.run('ls', '--json', 'nginx')).stdout.trim().split('\n');
    expect(listed.map((line) => (JSON.parse(line) as { source?: string }).source)).toEqual(['archive', undefined]);
    expect(done.stdout).toContain('2 images: 10 blobs taken in');
    await using site = await served(here.cacheDir);
    await expectServed(site, 'docker.io/library/nginx', index, '1.27');
    await expectServed(site, 'quay.io/org/alpine', alpine, '3');
    expect(json(await site.get('/v2/docker.io/library/nginx/tags/list'))).toMatchObject({ tags: ['1.27'] });
    // What came in for one repository is not another one's to read.
    expect((await site.get(`/v2/quay.io/org/alpine/blobs/${index.manifests[0]!.blobs[0]!.digest}`)).status).toBe(404);
  });

  test('a second time takes in nothing', async () => {
    await using here = await place();
    await writeTar(here.path('a.tar'), layoutOf(images));
    await here.run('import', here.path('a.tar'));
    const again = await here.run('import', here.path('a.tar'), '--json');
    expect(
      again.stdout
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line)),
    ).toMatchObject([
      { kind: 'plan', images: 2, blobs: 0, bytes: 0, present: 10 },
      { kind: 'image', name: 'docker.io/library/nginx:1.27', digest: index.digest },
      { kind: 'image', name: 'quay.io/org/alpine:3' },
      { kind: 'end' },
    ]);
  });

  test('a folder; a name where the archive gives none; beside a running mirror', async () => {
    await using here = await place();
    await using site = await served(here.cacheDir);
    const folder = await writeFolder(here.path('layout'), layoutOf([{ manifest: alpine }]));
    expect(await here.run('import', folder)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('layout: it does not say of which repository an image without a name'),
    });
    const done = await here.run('import', folder, '--name', 'alpine:edge');
    expect(done).toMatchObject({ code: 0, stdout: expect.stringContaining('docker.io/library/alpine:edge') });
    await expectServed(site, 'docker.io/library/alpine', alpine, 'edge');
  });

  test('under another name, with what goes with the image', async () => {
    const signature = localArtifact({ artifactType: 'application/x-signature', subject: alpine });
    const tag = `${alpine.digest.replace(':', '-')}.sig`;
    const attached = [`ghcr.io/org/app@${signature.digest}`, `ghcr.io/org/app:${tag}`].map((name) => ({
      manifest: signature,
      annotations: { 'io.millpond.attachment': name },
    }));
    const files = layoutOf([{ manifest: alpine, annotations: named('ghcr.io/org/app:1') }, ...attached]);
    // The upstream that it comes from is not one of this cache.
    await using here = await place();
    const tar = await writeTar(here.path('a.tar'), files);
    expect(await here.run('import', tar)).toMatchObject({ code: 1, stderr: expect.stringContaining('ghcr.io') });
    const done = await here.run('import', tar, '--name', 'quay.io/copy/app:2');
    expect(done).toMatchObject({ code: 0, stdout: expect.stringContaining('1 image with 2 attachments') });
    await using site = await served(here.cacheDir);
    await expectServed(site, 'quay.io/copy/app', alpine, '2');
    await expectServed(site, 'quay.io/copy/app', signature, tag);
    const referrers = await site.get(`/v2/quay.io/copy/app/referrers/${alpine.digest}`);
    expect(json(referrers)).toMatchObject({ manifests: [{ digest: signature.digest }] });
  });

  test('of docker save before Docker 25: links between layers, names without a registry', async () => {
    await using here = await place();
    const layers = [tarArchive({ one: '1' }), tarArchive({ two: '2' })];
    const config = JSON.stringify({
      architecture: 'amd64',
      os: 'linux',
      rootfs: { type: 'layers', diff_ids: layers.map((layer) => localBlob(layer).digest) },
    });
    const name = `${localBlob(config).digest.slice(7)}.json`;
    await writeTar(here.path('saved.tar'), {
      'aaa/layer.tar': layers[0]!,
      'bbb/layer.tar': layers[1]!,
      'aaa/VERSION': Buffer.from('1.0'),
      [name]: Buffer.from(config),
      'manifest.json': Buffer.from(
        JSON.stringify([
          { Config: name, RepoTags: ['nginx:old', 'quay.io/org/x:1'], Layers: ['aaa/layer.tar', 'bbb/layer.tar'] },
        ]),
      ),
    });
    const done = await here.run('import', here.path('saved.tar'));
    expect(done).toMatchObject({ code: 0, stderr: '' });
    await using site = await served(here.cacheDir);
    const manifest = await site.get('/v2/docker.io/library/nginx/manifests/old');
    expect(manifest.status).toBe(200);
    expect((await site.get('/v2/quay.io/org/x/manifests/1')).body).toEqual(manifest.body);
    const { layers: pulled } = json(manifest) as { layers: { digest: string; size: number }[] };
    expect(pulled.map(({ digest }) => digest)).toEqual(layers.map((layer) => localBlob(layer).digest));
    expect((await site.get(`/v2/docker.io/library/nginx/blobs/${pulled[1]!.digest}`)).body).toEqual(layers[1]);
  });

  test('an index of which one platform is here; the other is a 404 that says so', async () => {
    await using here = await place();
    const files = layoutOf([{ manifest: index, annotations: named('docker.io/library/nginx:1') }]);
    const [amd64, arm64] = index.manifests;
    for (const blob of [arm64!, ...arm64!.blobs]) delete files[fileOf(blob)];
    const done = await here.run('import', await writeTar(here.path('a.tar'), files));
    expect(done).toMatchObject({ code: 0, stdout: expect.stringContaining('without linux/arm64') });
    await using site = await served(here.cacheDir);
    expect((await site.get('/v2/docker.io/library/nginx/manifests/1')).body).toEqual(index.bytes);
    await expectServed(site, 'docker.io/library/nginx', amd64!);
    const missing = await site.get(`/v2/docker.io/library/nginx/manifests/${arm64!.digest}`);
    expect(missing.status).toBe(404);
    expect(missing.body.toString()).toContain('offline');
  });

  test('a tag does not appear when a layer is missing or wrong, and the next archive mends it', async () => {
    await using here = await place();
    const files = layoutOf([{ manifest: alpine, annotations: named('quay.io/org/alpine:3') }]);
    const layer = fileOf(alpine.blobs[1]!);
    const whole = files[layer]!;
    delete files[layer];
    expect(await here.run('import', await writeTar(here.path('a.tar'), files))).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^millpond: .*quay\.io\/org\/alpine:3 is not whole: it lacks sha256:.*\n$/),
    });
    files[layer] = Buffer.from(whole.map((byte) => byte ^ 1));
    expect(await here.run('import', await writeTar(here.path('b.tar'), files))).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('are other ones than its digest says'),
    });
    await using site = await served(here.cacheDir);
    expect((await site.get('/v2/quay.io/org/alpine/manifests/3')).status).toBe(404);
    expect((await filesIn(here.cacheDir)).filter((name) => name.includes('ingest/'))).toEqual([]);
    files[layer] = whole;
    expect(await here.run('import', await writeTar(here.path('c.tar'), files))).toMatchObject({ code: 0 });
    await expectServed(site, 'quay.io/org/alpine', alpine, '3');
  });
});

test('import takes in every image that is whole, and says of each other one what is wrong with it', async () => {
  await using here = await place();
  const [lacking, forged, good] = ['lacking', 'forged', 'good'].map((label) => localImage({ label }));
  const signature = localArtifact({ artifactType: 'application/x-signature', layers: [localBlob('signature')] });
  const nameOf = (tag: string): Record<string, string> => named(`docker.io/library/x:${tag}`);
  const files = layoutOf([
    { manifest: lacking!, annotations: nameOf('lacking') },
    { manifest: forged!, annotations: nameOf('forged') },
    { manifest: good!, annotations: nameOf('good') },
    { manifest: signature, annotations: { 'io.millpond.attachment': `docker.io/library/x@${signature.digest}` } },
  ]);
  delete files[fileOf(lacking!.blobs[1]!)];
  delete files[fileOf(signature.blobs[1]!)];
  files[fileOf(forged!.blobs[1]!)] = Buffer.alloc(forged!.blobs[1]!.size);
  const done = await here.run('import', await writeTar(here.path('a.tar'), files));
  expect(done).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/^millpond: a\.tar: 2 of its images were refused\n$/),
  });
  expect(done.stdout).toContain(`refused docker.io/library/x:lacking: docker.io/library/x:lacking is not whole`);
  expect(done.stdout).toMatch(/refused docker\.io\/library\/x:forged: .*: the bytes of sha256:\S+ are other ones than/);
  expect(done.stdout).toContain(`left out docker.io/library/x@${signature.digest}: `);
  expect(done.stdout).toMatch(/1 image: 9 blobs taken in/);
  await using site = await served(here.cacheDir);
  await expectServed(site, 'docker.io/library/x', good!, 'good');
  expect((await site.get('/v2/docker.io/library/x/manifests/forged')).status).toBe(404);
});

describe('a blob whose bytes are other ones is told of, and the exit code is 1,', () => {
  const signature = localArtifact({ artifactType: 'application/x-signature', layers: [localBlob('signed')] });
  const attached = { 'io.millpond.attachment': `docker.io/library/nginx@${signature.digest}` };
  const good = layoutOf([...images, { manifest: signature, annotations: attached }]);
  const arm64 = index.manifests[1]!;

  function damaged(...blobs: readonly LocalBlob[]): LayoutFiles {
    return { ...good, ...Object.fromEntries(blobs.map((blob) => [fileOf(blob), Buffer.alloc(blob.size)])) };
  }

  test('where it is of one platform: its image comes without that one, until a good copy is imported', async () => {
    await using here = await place();
    const layer = arm64.blobs[1]!;
    const sentence = `the bytes of ${layer.digest} are other ones than its digest says`;
    const tar = await writeTar(here.path('a.tar'), damaged(layer));
    const done = await here.run('import', tar);
    expect(done).toMatchObject({ code: 1, stderr: 'millpond: a.tar: 1 blob in it is damaged\n' });
    expect(done.stdout).toContain(`  without linux/arm64: ${sentence}\n`);
    expect(done.stdout).toContain('2 images with 1 attachment: ');
    const told = (await here.run('import', tar, '--json')).stdout.trim().split('\n');
    const events = told.map((line) => JSON.parse(line) as object);
    expect(events).toContainEqual({ kind: 'damaged', digest: layer.digest, reason: sentence });
    expect(events).toContainEqual(
      expect.objectContaining({ kind: 'image', leftOut: [{ name: 'linux/arm64', damage: sentence }] }),
    );
    expect(events.at(-1)).toMatchObject({ kind: 'end', images: 2, damaged: 1 });
    const mended = await here.run('import', await writeTar(here.path('b.tar'), good));
    expect(mended).toMatchObject({ code: 0, stderr: '' });
    await using site = await served(here.cacheDir);
    await expectServed(site, 'docker.io/library/nginx', index, '1.27');
    await expectServed(site, 'quay.io/org/alpine', alpine, '3');
  });

  test('where it is of a signature', async () => {
    await using here = await place();
    const done = await here.run('import', await writeTar(here.path('a.tar'), damaged(signature.blobs[1]!)));
    expect(done).toMatchObject({ code: 1, stderr: 'millpond: a.tar: 1 blob in it is damaged\n' });
    expect(done.stdout).toMatch(/left out docker\.io\/library\/nginx@sha256:\S+: .*: the bytes of sha256:/);
    expect(done.stdout).toContain('2 images: ');
  });

  test('and not where only what an interrupted import has left of it is wrong', async () => {
    await using here = await place();
    await here.run('import', await writeTar(here.path('first.tar'), layoutOf([images[1]!])));
    const { digest, size } = arm64.blobs[1]!;
    await writeFile(join(here.cacheDir, 'ingest', digest.replace(':', '-')), Buffer.alloc(size - 1, 'x'));
    const done = await here.run('import', await writeTar(here.path('a.tar'), good));
    expect(done).toMatchObject({ code: 0, stderr: '' });
    await using site = await served(here.cacheDir);
    await expectServed(site, 'docker.io/library/nginx', index, '1.27');
  });

  test('where the cache has it already', async () => {
    await using here = await place();
    const first = layoutOf([images[1]!]);
    await here.run('import', await writeTar(here.path('first.tar'), first));
    const blobs = [alpine.blobs[0]!, alpine.blobs[1]!];
    const tar = await writeTar(here.path('a.tar'), damaged(...blobs));
    // What an archive has not proven to have is looked at each time.
    for (const _ of [1, 2]) {
      const done = await here.run('import', tar);
      expect(done).toMatchObject({
        code: 1,
        stderr: 'millpond: a.tar: 2 blobs in it are damaged\n',
      });
      for (const { digest } of blobs) expect(done.stdout).toContain(`damaged: the bytes of ${digest} are other ones`);
      expect(done.stdout).toContain('2 images with 1 attachment: ');
    }
    await using site = await served(here.cacheDir);
    await expectServed(site, 'quay.io/org/alpine', alpine, '3');
  });
});

describe('the right to what is here for another repository', () => {
  const secret = localImage({ label: 'secret' });
  const own: LayoutImage = { manifest: secret, annotations: named('quay.io/private/app:1') };
  const other: LayoutImage = { manifest: secret, annotations: named('docker.io/library/evil:1') };
  const refused = {
    code: 1,
    stderr: expect.stringMatching(/docker\.io\/library\/evil:1 needs sha256:\S+, which is here for other repositories/),
  };

  /** The same without the content of some blobs, or with other content of the same size. */
  function robbed(files: LayoutFiles, blobs: readonly LocalBlob[], how: 'left out' | 'forged'): LayoutFiles {
    const changed = { ...files };
    for (const blob of blobs) {
      if (how === 'left out') delete changed[fileOf(blob)];
      else changed[fileOf(blob)] = Buffer.alloc(blob.size);
    }
    return changed;
  }

  test('comes with the bytes, and not with the knowledge of a digest', async () => {
    await using here = await place();
    await here.run('import', await writeTar(here.path('own.tar'), layoutOf([own])));
    const files = layoutOf([other]);
    const everything = [secret, ...secret.blobs];
    for (const [name, archive] of Object.entries({
      'empty.tar': robbed(files, everything, 'left out'),
      'manifest.tar': robbed(files, secret.blobs, 'left out'),
      'forged.tar': robbed(files, secret.blobs, 'forged'),
    })) {
      expect(await here.run('import', await writeTar(here.path(name), archive))).toMatchObject(refused);
    }
    // The repository that may read it needs no more of it.
    const again = await writeTar(here.path('again.tar'), robbed(layoutOf([own]), everything, 'left out'));
    expect(await here.run('import', again)).toMatchObject({ code: 0, stderr: '' });
    const whole = await here.run('import', await writeTar(here.path('whole.tar'), files));
    expect(whole).toMatchObject({ code: 0, stdout: expect.stringContaining('0 blobs taken in') });
    await using site = await served(here.cacheDir);
    await expectServed(site, 'docker.io/library/evil', secret, '1');
  });

  test('comes with the archive that an archive builds upon, if that had it', async () => {
    const upon = { manifest: localArtifact({ layers: secret.blobs, artifactType: 'application/x' }) };
    const both = [own, { ...upon, annotations: named('docker.io/library/evil:1') }];
    await using outside = await place();
    await outside.run('import', await writeTar(outside.path('in.tar'), layoutOf(both)));
    await outside.run('export', '--output', 'base.tar', 'quay.io/private/app:1');
    await outside.run('export', '--output', 'new.tar', '--since', outside.path('base.tar'), 'evil:1');
    await using inside = await place();
    expect(await inside.run('import', outside.path('base.tar'))).toMatchObject({ code: 0 });
    expect(await inside.run('import', outside.path('new.tar'))).toMatchObject({ code: 0, stderr: '' });
    await using site = await served(inside.cacheDir);
    await expectServed(site, 'docker.io/library/evil', upon.manifest, '1');
    // The same blobs, brought by another archive than the one that it says it builds upon.
    await using elsewhere = await place();
    await elsewhere.run('import', await writeTar(elsewhere.path('own.tar'), layoutOf([own])));
    expect(await elsewhere.run('import', outside.path('new.tar'))).toMatchObject(refused);
    expect(await elsewhere.run('import', outside.path('base.tar'))).toMatchObject({ code: 0 });
    expect(await elsewhere.run('import', outside.path('new.tar'))).toMatchObject({ code: 0 });
  });
});

describe('import into a cache that is full', () => {
  const small = { maxSize: '5MB', minFree: '0' };
  /** Images with a layer of 2 MB each, in one archive. */
  const sized = (...labels: string[]): LayoutImage[] =>
    labels.map((label) => ({
      manifest: localArtifact({ layers: [localBlob(Buffer.alloc(2_000_000, label))] }),
      annotations: named(`docker.io/library/${label}:1`),
    }));

  test.each([
    ['alone', false],
    ['beside a mirror', true],
  ])('%s makes room by evicting what was there before, and not what has just come', async (_, isBeside) => {
    await using here = await place({ cache: small });
    await using running = new AsyncDisposableStack();
    if (isBeside) {
      const { upstreams, cacheDir } = here;
      running.use(await startTestSite({ upstreams, cacheDir, config: { cache: { dir: cacheDir, ...small } } }));
    }
    const [older, newer] = [sized('a', 'b'), sized('c', 'd')];
    await writeTar(here.path('older.tar'), layoutOf(older));
    expect(await here.run('import', here.path('older.tar'))).toMatchObject({ code: 0, stderr: '' });
    await writeTar(here.path('newer.tar'), layoutOf(newer));
    expect(await here.run('import', here.path('newer.tar'))).toMatchObject({ code: 0, stderr: '' });
    await running.disposeAsync();
    await using site = await served(here.cacheDir);
    await expectServed(site, 'docker.io/library/c', newer[0]!.manifest, '1');
    await expectServed(site, 'docker.io/library/d', newer[1]!.manifest, '1');
  });

  test('is refused before anything comes where the budget has no room for it', async () => {
    await using here = await place({ cache: small });
    await here.run('import', await writeTar(here.path('a.tar'), layoutOf(sized('a'))));
    await here.run('pin', 'a:1');
    const before = await filesIn(here.cacheDir);
    const file = await writeTar(here.path('bc.tar'), layoutOf(sized('b', 'c')));
    expect(await here.run('import', file)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(
        /it brings 3\.8MiB beside 1\.9MiB that are pinned, more than cache\.maxSize \(4\.8MiB\)/,
      ),
    });
    expect(await filesIn(here.cacheDir)).toEqual(before);
  });
});

describe('export', () => {
  const signature = localArtifact({ artifactType: 'application/vnd.dev.cosign.artifact.sig.v1+json' });
  const sbom = localArtifact({ artifactType: 'application/spdx+json', subject: index });
  const sbomSignature = localArtifact({ artifactType: 'application/x-signature', subject: sbom });
  const referrers = localReferrers([{ manifest: sbom, artifactType: 'application/spdx+json' }]);
  const tag = index.digest.replace(':', '-');
  const attached = (name: string) => ({ 'io.millpond.attachment': `docker.io/library/nginx${name}` });
  const everything: LayoutImage[] = [
    ...images,
    { manifest: signature, annotations: attached(`:${tag}.sig`) },
    { manifest: referrers, annotations: attached(`:${tag}`) },
    { manifest: sbomSignature, annotations: attached(`@${sbomSignature.digest}`) },
  ];

  test('gives the same bytes each time; signatures, referrers and theirs travel along', async () => {
    await using first = await place();
    await writeTar(first.path('in.tar'), layoutOf(everything));
    expect(await first.run('import', first.path('in.tar'))).toMatchObject({ code: 0, stderr: '' });
    const names = ['nginx:1.27', 'quay.io/org/alpine:3'];
    expect(await first.run('export', '--output', 'one.tar', ...names)).toMatchObject({ code: 0, stderr: '' });
    await using site = await served(first.cacheDir);
    expect(await first.run('export', '--output', 'two.tar', ...names.toReversed())).toMatchObject({ code: 0 });
    const one = await readFile(first.path('one.tar'));
    expect(one.equals(await readFile(first.path('two.tar')))).toBe(true);
    const list = await readFile(first.path('one.tar.sha256'), 'utf8');
    expect(list).toContain(`${createHash('sha256').update(one).digest('hex')}  one.tar\n`);
    await using second = await place();
    const imported = await second.run('import', first.path('one.tar'));
    expect(imported).toMatchObject({ code: 0, stdout: expect.stringContaining('2 images with 4 attachments') });
    await using other = await served(second.cacheDir);
    await expectServed(other, 'docker.io/library/nginx', index, '1.27');
    await expectServed(other, 'docker.io/library/nginx', signature, `${tag}.sig`);
    await expectServed(other, 'docker.io/library/nginx', sbomSignature);
    const listed = async (digest: string): Promise<string[]> => {
      const reply = await other.get(`/v2/docker.io/library/nginx/referrers/${digest}`);
      return json<{ manifests: { digest: string }[] }>(reply).manifests.map((manifest) => manifest.digest);
    };
    expect(await listed(index.digest)).toEqual([sbom.digest]);
    expect(await listed(sbom.digest)).toEqual([sbomSignature.digest]);
    expect((await site.get('/v2/')).status).toBe(200);
  });

  test('takes an index of plain blobs along, as a build keeps its cache', async () => {
    const layer = localBlob(Buffer.alloc(100_000, 'cached'), 'application/vnd.oci.image.layer.v1.tar+gzip');
    const config = localBlob('{"layers":[]}', 'application/vnd.buildkit.cacheconfig.v0');
    const manifests = [layer, config].map(({ mediaType, digest, size }) => ({ mediaType, digest, size }));
    const body = JSON.stringify({ schemaVersion: 2, mediaType: index.mediaType, manifests });
    const cached = { ...localBlob(body, index.mediaType), blobs: [layer, config], manifests: [] };
    await using here = await place();
    const files = layoutOf([{ manifest: cached, annotations: named('quay.io/org/app:cache') }]);
    const done = await here.run('import', await writeTar(here.path('in.tar'), files));
    expect(done).toMatchObject({ code: 0, stdout: expect.stringContaining('1 image: 3 blobs taken in') });
    expect(await here.run('export', '--output', 'out.tar', 'quay.io/org/app:cache')).toMatchObject({ code: 0 });
    await using other = await place();
    expect(await other.run('import', here.path('out.tar'))).toMatchObject({ code: 0, stderr: '' });
    await using site = await served(other.cacheDir);
    await expectServed(site, 'quay.io/org/app', cached, 'cache');
  });

  test('of large manifests can be imported, and built upon', async () => {
    await using here = await place();
    const annotations = { padding: 'x'.repeat(3_900_000) };
    const large = Array.from({ length: 10 }, (_, at) => ({
      manifest: localArtifact({ artifactType: `application/x-${at}`, annotations }),
      annotations: named(`quay.io/org/large:${at}`),
    }));
    const tar = await writeTar(here.path('in.tar'), layoutOf(large));
    expect(await here.run('import', tar)).toMatchObject({ code: 0, stderr: '' });
    const names = large.map((_, at) => `quay.io/org/large:${at}`);
    expect(await here.run('export', '--output', 'out.tar', ...names)).toMatchObject({ code: 0, stderr: '' });
    await using other = await place();
    expect(await other.run('import', here.path('out.tar'))).toMatchObject({ code: 0, stderr: '' });
    const since = ['--since', here.path('out.tar'), ...names];
    expect(await here.run('export', '--output', 'next.tar', ...since)).toMatchObject({ code: 0, stderr: '' });
  });

  test('of one platform leaves the index as it is; what is not here is refused and nothing written', async () => {
    await using here = await place();
    await here.run('import', await writeTar(here.path('in.tar'), layoutOf(images)));
    const one = await here.run('export', '--output', 'one.tar', '--platform', 'linux/arm64', 'nginx:1.27');
    expect(one).toMatchObject({ code: 0, stderr: '' });
    await using other = await place();
    const done = await other.run('import', here.path('one.tar'));
    expect(done.stdout).toContain('without linux/amd64');
    expect(await here.run('export', '--output', 'x.tar', '--platform', 'linux/s390x', 'nginx:1.27')).toMatchObject({
      code: 1,
      stderr: 'millpond: docker.io/library/nginx:1.27 is not made for linux/s390x\n',
    });
    expect(await here.run('export', '--output', 'x.tar', 'nginx:1', 'nginx:2')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('docker.io/library/nginx:1 is not in the cache: fetch it first\n'),
    });
    await expect(readFile(here.path('x.tar'))).rejects.toThrow('ENOENT');
    expect(await here.run('export', '--output', 'x.tar', '--split', '7', 'nginx:1.27')).toMatchObject({ code: 2 });
  });

  test('says which platforms and attestations of an index are not in the cache', async () => {
    const [amd64, arm64] = index.manifests;
    const [ofAmd64, ofArm64] = [amd64!, arm64!].map(({ digest }) =>
      localArtifact({ layers: [localBlob(`attests ${digest}`)] }),
    );
    const entry = ({ mediaType, digest, size }: LocalManifest, architecture: string) => ({
      mediaType,
      digest,
      size,
      platform: { os: 'linux', architecture },
    });
    const attestation = ({ mediaType, digest, size }: LocalManifest, about: LocalManifest) => ({
      mediaType,
      digest,
      size,
      platform: { os: 'unknown', architecture: 'unknown' },
      annotations: {
        'vnd.docker.reference.type': 'attestation-manifest',
        'vnd.docker.reference.digest': about.digest,
      },
    });
    const manifests = [
      attestation(ofAmd64!, amd64!),
      attestation(ofArm64!, arm64!),
      entry(amd64!, 'amd64'),
      entry(arm64!, 'arm64'),
    ];
    const body = JSON.stringify({ schemaVersion: 2, mediaType: index.mediaType, manifests });
    const built = { ...localBlob(body, index.mediaType), blobs: [], manifests: [amd64!] };
    await using here = await place();
    const files = layoutOf([{ manifest: built, annotations: named('quay.io/org/built:1') }]);
    await here.run('import', await writeTar(here.path('in.tar'), files));
    const exported = await here.run('export', '--output', 'out.tar', 'quay.io/org/built:1');
    expect(exported).toMatchObject({ code: 0, stderr: '' });
    expect(exported.stdout).toContain(
      `quay.io/org/built:1 without ${ofAmd64!.digest}, linux/arm64: not in the cache\n`,
    );
    const told = await here.run('export', '--dry-run', 'quay.io/org/built:1', '--json');
    expect(JSON.parse(told.stdout.split('\n')[0]!)).toMatchObject({ absent: [ofAmd64!.digest, 'linux/arm64'] });
    const bare = await here.run(
      'export',
      '--dry-run',
      'quay.io/org/built:1',
      '--platform=linux/amd64',
      '--no-referrers',
    );
    expect(bare.stdout).not.toContain('without');
  });

  test('is refused where a platform has lost a blob, unless the others are asked for', async () => {
    await using here = await place();
    await here.run('import', await writeTar(here.path('in.tar'), layoutOf(images)));
    const layer = index.manifests[1]!.blobs[1]!;
    await rm(join(here.cacheDir, blobFile(layer.digest)));
    expect(await here.run('export', '--output', 'out.tar', 'nginx:1.27')).toMatchObject({
      code: 1,
      stderr: `millpond: docker.io/library/nginx:1.27 for linux/arm64 is not whole in the cache, it lacks ${layer.digest}: fetch it first\n`,
    });
    await expect(readFile(here.path('out.tar'))).rejects.toThrow('ENOENT');
    const other = await here.run('export', '--output', 'out.tar', '--platform', 'linux/amd64', 'nginx:1.27');
    expect(other).toMatchObject({ code: 0, stderr: '' });
  });

  test('lists for docker load, in the way of docker save, the images that it has whole', async () => {
    await using here = await place();
    const arm = localIndex('arm first', ['arm64', 'amd64']);
    const chart = localArtifact({ artifactType: 'application/x-chart' });
    const more = [
      { manifest: alpine, annotations: named('quay.io/org/alpine:3') },
      { manifest: alpine, annotations: named('quay.io/org/alpine:latest') },
      { manifest: arm, annotations: named('quay.io/org/arm:1') },
      { manifest: chart, annotations: named('quay.io/org/chart:1') },
    ];
    await here.run('import', await writeTar(here.path('in.tar'), layoutOf(more)));
    const names = more.map(({ annotations }) => annotations['io.containerd.image.name']!);
    const list = async (output: string, ...args: string[]): Promise<unknown> => {
      expect(await here.run('export', '--output', output, ...args)).toMatchObject({ code: 0, stderr: '' });
      const { stdout } = await promisify(execFile)('tar', ['-xOf', here.path(output), 'manifest.json']);
      return JSON.parse(stdout);
    };
    const entry = (repoTags: string[], { blobs: [config, ...layers] }: LocalManifest) => ({
      Config: fileOf(config!),
      RepoTags: repoTags,
      Layers: layers.map(fileOf),
    });
    expect(await list('all.tar', ...names)).toEqual([
      entry(['quay.io/org/alpine:3', 'quay.io/org/alpine:latest'], alpine),
      entry(['quay.io/org/arm:1'], arm.manifests[1]!),
    ]);
    expect(await list('arm.tar', 'quay.io/org/arm:1', '--platform', 'linux/arm64')).toEqual([
      entry(['quay.io/org/arm:1'], arm.manifests[0]!),
    ]);
    await expect(list('delta.tar', '--since', here.path('arm.tar.sha256'), 'quay.io/org/arm:1')).resolves.toEqual([
      entry(['quay.io/org/arm:1'], arm.manifests[1]!),
    ]);
    await expect(list('none.tar', '--since', here.path('all.tar.sha256'), ...names)).rejects.toThrow('manifest.json');
  });

  test('takes what a fetch of the same list has taken: images of which one has fewer of the wanted platforms', async () => {
    await using upstream = await startRegistry();
    const [one, two, three] = ['one', 'two', 'three'].map((layer) =>
      upstream.addImage('org/app', undefined, { layers: [layer] }),
    );
    const amd64 = { os: 'linux', architecture: 'amd64' };
    const arm64 = { os: 'linux', architecture: 'arm64' };
    upstream.addIndex('org/app', 'amd64', [{ manifest: one!, platform: amd64 }]);
    upstream.addIndex('org/app', 'both', [
      { manifest: two!, platform: amd64 },
      { manifest: three!, platform: arm64 },
    ]);
    await using here = await place({ upstreams: { 'quay.io': { urls: [upstream.origin] } } });
    const platforms = ['linux/amd64', 'linux/arm64'];
    const list = ['amd64', 'both'].map((version) => ({ name: `quay.io/org/app:${version}`, platforms }));
    await writeFile(here.path('images.yaml'), JSON.stringify(list));
    const fetched = await here.run('fetch', '--file', 'images.yaml');
    expect(fetched).toMatchObject({ code: 0, stderr: '' });
    expect(fetched.stdout).toMatch(/quay\.io\/org\/app:amd64 .*\n {2}without linux\/arm64\n/);
    const exported = await here.run('export', '--output', 'out.tar', '--file', 'images.yaml');
    expect(exported).toMatchObject({ code: 0, stderr: '' });
    expect(exported.stdout).toContain('quay.io/org/app:amd64 without linux/arm64\n');
    const told = await here.run('export', '--output', 'out.tar', '--file', 'images.yaml', '--json');
    expect(
      told.stdout
        .trim()
        .split('\n')
        .slice(0, 2)
        .map((line) => JSON.parse(line)),
    ).toMatchObject([
      { kind: 'image', name: 'quay.io/org/app:amd64', lacks: ['linux/arm64'] },
      { kind: 'image', name: 'quay.io/org/app:both', lacks: [] },
    ]);
  });

  test('and a fetch take all that any line of a list wants of an image', async () => {
    await using upstream = await startRegistry();
    const platforms = ['amd64', 'arm64', 's390x'];
    const parts = platforms.map((architecture) => ({
      manifest: upstream.addImage('org/app', undefined, { layers: [architecture] }),
      platform: { os: 'linux', architecture },
    }));
    const image = upstream.addIndex('org/app', '1.0', parts);
    const signed = upstream.addReferrer('org/app', image, { artifactType: 'application/x-sig', layers: ['signed'] });
    await using here = await place({ upstreams: { 'quay.io': { urls: [upstream.origin] } } });
    const list = [
      { name: 'quay.io/org/app', tags: ['1.*'], platforms: ['linux/amd64'], referrers: false },
      { name: 'quay.io/org/app:1.0', platforms: ['linux/arm64', 'linux/amd64'] },
    ];
    await writeFile(here.path('images.yaml'), JSON.stringify(list));
    const fetched = await here.run('fetch', '--file', 'images.yaml');
    expect(fetched).toMatchObject({ code: 0, stderr: '', stdout: expect.stringContaining('1 of 1 image here') });
    expect(await here.run('export', '--output', 'out.tar', '--file', 'images.yaml')).toMatchObject({
      code: 0,
      stderr: '',
    });
    await using other = await place();
    const { stdout } = await other.run('import', here.path('out.tar'));
    expect(stdout).toContain('without linux/s390x\n');
    const taken = [image, signed, ...parts.slice(0, 2).map(({ manifest }) => manifest)];
    await using site = await served(other.cacheDir);
    for (const { digest } of taken)
      expect((await site.get(`/v2/quay.io/org/app/manifests/${digest}`)).status).toBe(200);
  });

  test('takes the tags that a fetch of the same patterns has taken, whatever else was here before', async () => {
    await using upstream = await startRegistry();
    const versions = ['1.0', '1.1', '1.2', '1.3', '0.9'];
    const released = versions.map((version) => upstream.addImage('org/app', version, { layers: [version] }));
    const upstreams = { 'quay.io': { urls: [upstream.origin] } };
    await using here = await place({ upstreams, cache: { tagTtl: '0s' } });
    const list = [{ name: 'quay.io/org/app', tags: ['1.*'], limit: 3 }];
    await writeFile(here.path('images.yaml'), JSON.stringify(list));
    expect(await here.run('fetch', '--file', 'images.yaml')).toMatchObject({ code: 0, stderr: '' });
    {
      // Of one that is not wanted yet, a client has begun with the manifest.
      await using site = await startTestSite({ upstreams, cacheDir: here.cacheDir });
      await site.get('/v2/quay.io/org/app/manifests/1.0');
    }
    for (const version of ['1.0', '1.3', '0.9']) upstream.removeTag('org/app', version);
    // It lists no more than that, and has the other one nevertheless.
    upstream.fault('/v2/org/app/tags/list', { kind: 'status', status: 200, body: '{"tags":["1.1"]}' });
    upstream.forgetRequests();
    const fetched = await here.run('fetch', '--file', 'images.yaml');
    expect(fetched).toMatchObject({ code: 0, stderr: '', stdout: expect.stringContaining('2 of 2 images here') });
    expect(await here.run('export', '--output', 'out.tar', '--file', 'images.yaml')).toMatchObject({
      code: 0,
      stderr: '',
    });
    await using other = await place();
    const { stdout } = await other.run('import', here.path('out.tar'));
    for (const [at, version] of versions.entries()) {
      const line = `quay.io/org/app:${version} ${released[at]!.digest.slice(0, 19)}`;
      expect(stdout.includes(line), line).toBe(version === '1.1' || version === '1.2');
    }
    expect(upstream.requests.some(({ path }) => path.endsWith('/0.9'))).toBe(false);
  });

  test('says at a dry run what would be written, also since an earlier archive, and writes nothing', async () => {
    await using here = await place();
    await here.run('import', await writeTar(here.path('in.tar'), layoutOf(images)));
    const bytesOf = ({ manifests, blobs, size }: LocalManifest): number =>
      [...manifests.map(bytesOf), ...blobs.map((blob) => blob.size)].reduce((sum, bytes) => sum + bytes, size);
    await here.run('export', '--output', 'base.tar', 'quay.io/org/alpine:3');
    const before = (await readdir(here.path('.'))).toSorted();
    const dry = ['export', '--dry-run', 'nginx:1.27', 'quay.io/org/alpine:3'];
    const since = ['--since', here.path('base.tar.sha256')];
    const told = await here.run(...dry, ...since, '--json');
    expect(told).toMatchObject({ code: 0, stderr: '' });
    const events = told.stdout.trim().split('\n');
    expect(events.map((line) => JSON.parse(line))).toMatchObject([
      { kind: 'image', name: 'docker.io/library/nginx:1.27', bytes: bytesOf(index), newBytes: bytesOf(index) },
      { kind: 'image', name: 'quay.io/org/alpine:3', bytes: bytesOf(alpine), newBytes: 0 },
      { kind: 'plan', blobs: 7, leftOut: 3 },
    ]);
    const shown = await here.run(...dry, ...since, '--output', 'out.tar');
    expect(shown.stdout).toMatch(/^quay\.io\/org\/alpine:3 sha256:\w+… \S+B, 0B to be written$/m);
    expect(shown.stdout).toMatch(/\narchive sha256:\w+: 7 blobs, since sha256:\w+… \(3 blobs left out\), \S+KiB\n$/);
    expect((await readdir(here.path('.'))).toSorted()).toEqual(before);
    expect(await here.run('export', 'nginx:1.27')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('--output'),
    });
  });

  test('makes no cache where there is none, and refuses what is no name as wrong usage', async () => {
    await using here = await place();
    const absent = here.path('nowhere');
    expect(await here.run('export', '--output', 'out.tar', '--cache-dir', absent, 'nginx')).toMatchObject({
      code: 1,
      stderr: `millpond: there is no cache in ${absent}\n`,
    });
    await expect(lstat(absent)).rejects.toThrow('ENOENT');
    expect(await here.run('export', '--output', 'out.tar', 'Bad Name')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('Bad Name is not the name of an image'),
    });
  });

  test('says which signature it leaves out because not all of it is here', async () => {
    await using upstream = await startRegistry();
    const image = upstream.addImage('org/app', '1');
    const signed = upstream.addReferrer('org/app', image, { artifactType: 'application/x-sig', layers: ['signed'] });
    const upstreams = { 'quay.io': { urls: [upstream.origin] } };
    await using here = await place({ upstreams });
    expect(await here.run('fetch', '--no-referrers', 'quay.io/org/app:1')).toMatchObject({ code: 0 });
    {
      await using site = await startTestSite({ upstreams, cacheDir: here.cacheDir });
      await site.get(`/v2/quay.io/org/app/manifests/${signed.digest}`);
    }
    const name = `quay.io/org/app@${signed.digest}`;
    const exported = await here.run('export', '--output', 'out.tar', 'quay.io/org/app:1');
    expect(exported).toMatchObject({ code: 0, stderr: '' });
    expect(exported.stdout).toContain(`left out ${name}: ${name} is not whole in the cache, it lacks sha256:`);
    const told = await here.run('export', '--output', 'out.tar', 'quay.io/org/app:1', '--json');
    const events = told.stdout.trim().split('\n');
    expect(events.map((line) => JSON.parse(line))).toContainEqual({
      kind: 'left-out',
      name,
      reason: expect.stringContaining('fetch it first') as string,
    });
  });

  test('of a list of images, as fetch takes it: tags by pattern among those that are here', async () => {
    await using here = await place();
    const tags = ['1.2.0', '1.10.0', '2.0.0'];
    const released = tags.map((version) => ({
      manifest: localImage({ label: version }),
      annotations: named(`quay.io/org/app:${version}`),
    }));
    await here.run('import', await writeTar(here.path('in.tar'), layoutOf([...released, images[0]!])));
    const list = [
      { name: 'quay.io/org/app', tags: ['^1'], limit: 1 },
      { name: 'nginx:1.27', platforms: ['linux/arm64'] },
    ];
    await writeFile(here.path('images.yaml'), JSON.stringify(list));
    expect(await here.run('export', '--output', 'out.tar', '--file', 'images.yaml')).toMatchObject({
      code: 0,
      stderr: '',
    });
    await using other = await place();
    const { stdout } = await other.run('import', here.path('out.tar'));
    expect(stdout).toContain('quay.io/org/app:1.10.0');
    expect(stdout).toContain('without linux/amd64');
    expect(stdout).toContain('2 images:');
    await writeFile(here.path('images.yaml'), JSON.stringify([{ name: 'quay.io/org/app', tags: ['^7'] }]));
    expect(await here.run('export', '--output', 'out.tar', '--file', 'images.yaml')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('with a tag that is ^7 is not in the cache'),
    });
    expect(await here.run('export', '--output', 'out.tar')).toMatchObject({ code: 2 });
  });

  test('since an earlier archive, or its list, has only what is new, and is refused where that is missing', async () => {
    await using here = await place();
    await here.run('import', await writeTar(here.path('in.tar'), layoutOf(images)));
    await here.run('export', '--output', 'base.tar', 'nginx:1.27', 'quay.io/org/alpine:3');
    const newer = localImage({ label: 'newer' });
    await here.run(
      'import',
      await writeTar(here.path('new.tar'), layoutOf([{ manifest: newer, annotations: named('quay.io/org/alpine:4') }])),
    );
    const names = ['nginx:1.27', 'quay.io/org/alpine:3', 'quay.io/org/alpine:4'];
    expect(await here.run('export', '--output', 'a.tar', '--since', here.path('base.tar'), ...names)).toMatchObject({
      code: 0,
    });
    await here.run('export', '--output', 'b.tar', '--since', here.path('base.tar.sha256'), ...names);
    const delta = await readFile(here.path('a.tar'));
    expect(delta.equals(await readFile(here.path('b.tar')))).toBe(true);
    expect(delta.includes(newer.blobs[1]!.bytes)).toBe(true);
    expect(delta.includes(alpine.blobs[1]!.bytes)).toBe(false);

    await using other = await place();
    const [, id] = /^# archive (\S+)/.exec(await readFile(here.path('base.tar.sha256'), 'utf8')) ?? [];
    expect(await other.run('import', here.path('a.tar'))).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(`a.tar: it has only what is new since archive ${id}: import that one first`),
    });
    expect((await filesIn(other.cacheDir)).length).toBe(0);
    expect(await other.run('import', here.path('base.tar'))).toMatchObject({ code: 0 });
    expect(await other.run('import', here.path('a.tar'))).toMatchObject({ code: 0, stderr: '' });
    await using site = await served(other.cacheDir);
    await expectServed(site, 'quay.io/org/alpine', newer, '4');

    await writeFile(here.path('cut.tar'), delta.subarray(0, 100));
    expect(await here.run('export', '--output', 'c.tar', '--since', here.path('cut.tar'), ...names)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^millpond: cut\.tar: it is cut short /),
    });

    // A third one builds upon both.
    await here.run('export', '--output', 'third.tar', '--since', here.path('a.tar'), ...names);
    expect((await readFile(here.path('third.tar'))).includes(alpine.blobs[1]!.bytes)).toBe(false);
    expect(await other.run('import', here.path('third.tar'))).toMatchObject({ code: 0, stderr: '' });
  });

  test('cut short between two files, or without one of them, is no archive any more', async () => {
    await using here = await place();
    await here.run('import', await writeTar(here.path('in.tar'), layoutOf(images)));
    await here.run('export', '--output', 'out.tar', 'nginx:1.27');
    const whole = await readFile(here.path('out.tar'));
    const last = whole.lastIndexOf('blobs/sha256/');
    for (const end of [last, whole.length - 1024]) {
      await writeFile(here.path('cut.tar'), whole.subarray(0, end));
      await using other = await place();
      expect(await other.run('import', here.path('cut.tar'))).toMatchObject({
        code: 1,
        stderr: 'millpond: cut.tar: it is cut short: its end is missing\n',
      });
    }
    await writeFile(here.path('less.tar'), Buffer.concat([whole.subarray(0, last), Buffer.alloc(1024)]));
    await using other = await place();
    expect(await other.run('import', here.path('less.tar'))).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/less\.tar: it is not whole: it lacks 1 of its 7 blobs, such as sha256:/),
    });
  });

  test('in parts, which are imported in any order, and none of which may be missing', async () => {
    await using here = await place();
    const big = localArtifact({ layers: [localBlob(Buffer.alloc(40_000, 'layer'))] });
    await here.run(
      'import',
      await writeTar(here.path('in.tar'), layoutOf([{ manifest: big, annotations: named('quay.io/org/big:1') }])),
    );
    await here.run('export', '--output', 'whole.tar', 'quay.io/org/big:1');
    expect(await here.run('export', '--output', 'f.tar', '--split', '16KiB', 'quay.io/org/big:1')).toMatchObject({
      code: 0,
    });
    const parts = ['f.tar.001', 'f.tar.002', 'f.tar.003'].map(here.path);
    const joined = Buffer.concat(
      await Promise.all([...parts, here.path('f.tar.004')].map((part) => readFile(part).catch(() => Buffer.alloc(0)))),
    );
    expect(joined.equals(await readFile(here.path('whole.tar')))).toBe(true);
    for (const given of [parts.toReversed(), [parts[1]!], [here.path('f.tar')]]) {
      await using other = await place();
      expect(await other.run('import', ...given.filter(Boolean))).toMatchObject({ code: 0, stderr: '' });
    }
    await using other = await place();
    expect(await other.run('import', parts[2]!, parts[0]!)).toMatchObject({
      code: 1,
      stderr: 'millpond: f.tar.003: part 002 is missing\n',
    });
    expect((await other.run('import', parts[0]!, parts[1]!)).stderr).toContain('cut short');
  });

  test('goes to standard output, with all that is said on standard error', async () => {
    await using here = await place();
    await here.run('import', await writeTar(here.path('in.tar'), layoutOf(images)));
    const names = ['nginx:1.27', 'quay.io/org/alpine:3'];
    await here.run('export', '--output', 'file.tar', ...names);
    const file = await readFile(here.path('file.tar'));
    const before = (await readdir(here.path('.'))).toSorted();
    const streamed = await runBinaryCommand(['export', '--output', '-', ...names, '--json'], here.path('.'));
    expect(streamed.code).toBe(0);
    expect(streamed.stdout.equals(file)).toBe(true);
    const sha256 = createHash('sha256').update(file).digest('hex');
    expect(JSON.parse(streamed.stderr.trim().split('\n').at(-1)!)).toMatchObject({
      kind: 'end',
      files: [{ name: '-', sha256, size: file.length }],
      list: null,
    });
    expect((await readdir(here.path('.'))).toSorted()).toEqual(before);
    const piped = `'${launcher}' export --output - ${names.join(' ')} | cat > piped.tar`;
    const { code, stderr } = await run('sh', ['-c', piped], { cwd: here.path('.') });
    expect([code, stderr.includes('archive sha256:')]).toEqual([0, true]);
    expect((await readFile(here.path('piped.tar'))).equals(file)).toBe(true);
    expect(await here.run('export', '--output', '-', '--split', '4KiB', ...names)).toMatchObject({ code: 2 });
  });

  test('fails where the program that it is sent to does not read all of it', async () => {
    await using here = await place();
    const big = localArtifact({ layers: [localBlob(Buffer.alloc(2_000_000, 'layer'))] });
    const files = layoutOf([{ manifest: big, annotations: named('quay.io/org/big:1') }]);
    await here.run('import', await writeTar(here.path('in.tar'), files));
    const piped = `{ '${launcher}' export --output - quay.io/org/big:1; echo $? > code; } | head -c 1 > first`;
    const { stderr } = await run('sh', ['-c', piped], { cwd: here.path('.') });
    expect(stderr).toContain('millpond: standard output cannot be written: EPIPE\n');
    expect(await readFile(here.path('code'), 'utf8')).toBe('1\n');
  });

  test('takes the place of a file, and of nothing else', async () => {
    await using here = await place();
    await here.run('import', await writeTar(here.path('in.tar'), layoutOf(images)));
    await writeFile(here.path('target.tar'), 'of somebody else');
    await symlink('target.tar', here.path('link.tar'));
    await promisify(execFile)('mkfifo', [here.path('pipe.tar')]);
    await mkdir(here.path('folder.tar.002'));
    await mkdir(here.path('listed.tar.sha256'));
    const refused = async (output: string, ...more: string[]) =>
      expect(await here.run('export', '--output', output, 'nginx:1.27', ...more)).toMatchObject({
        code: 1,
        stderr: expect.stringMatching(/ is not a file \((a link|a folder|a device, pipe or socket)\)/),
      });
    const before = (await readdir(here.path('.'))).toSorted();
    await refused('link.tar');
    await refused('pipe.tar');
    await refused('listed.tar');
    await refused('folder.tar', '--split', '4KiB');
    expect((await readdir(here.path('.'))).toSorted()).toEqual(before);
    expect((await lstat(here.path('pipe.tar'))).isFIFO()).toBe(true);
    expect(await readFile(here.path('link.tar'), 'utf8')).toBe('of somebody else');
    expect(await here.run('export', '--output', 'target.tar', 'nginx:1.27')).toMatchObject({ code: 0, stderr: '' });
  });

  test('removes what killed exports of the same name have left, and nothing else', async () => {
    await using here = await place();
    await here.run('import', await writeTar(here.path('in.tar'), layoutOf(images)));
    const killed = execFile('true');
    await once(killed, 'exit');
    const left = ['', '.003', '.1234', '.sha256'].map((part) => `out.tar${part}.${killed.pid}.partial`);
    const others = [`out.tar.${process.ppid}.partial`, `other.tar.${killed.pid}.partial`, 'out.tar.2025'];
    for (const name of [...left, ...others]) await writeFile(here.path(name), 'begun');
    expect(await here.run('export', '--output', 'out.tar', 'nginx:1.27')).toMatchObject({ code: 0, stderr: '' });
    const names = await readdir(here.path('.'));
    expect(names.filter((name) => left.includes(name))).toEqual([]);
    for (const name of others) expect(await readFile(here.path(name), 'utf8')).toBe('begun');
    expect(names.filter((name) => name.endsWith('.partial'))).toHaveLength(2);
  });

  test('in other parts than before, or in none, leaves nothing of the archive that had the name', async () => {
    await using here = await place();
    const [older, newer] = ['older', 'newer'].map((label) =>
      localArtifact({ layers: [localBlob(Buffer.alloc(40_000, label))] }),
    );
    const versions = layoutOf([
      { manifest: older!, annotations: named('quay.io/org/big:1') },
      { manifest: newer!, annotations: named('quay.io/org/big:2') },
    ]);
    await here.run('import', await writeTar(here.path('in.tar'), versions));
    await writeFile(here.path('f.tar.old'), 'of somebody else');
    const files = async () => (await readdir(here.path('.'))).filter((name) => name.startsWith('f.tar')).toSorted();
    const split = (size: string) => ['--split', size];
    for (const [image, how, written] of [
      ['big:1', [], ['f.tar']],
      ['big:2', split('16KiB'), ['f.tar.001', 'f.tar.002', 'f.tar.003']],
      ['big:1', split('40KiB'), ['f.tar.001', 'f.tar.002']],
      ['big:2', [], ['f.tar']],
    ] as const) {
      const exported = await here.run('export', '--output', 'f.tar', ...how, `quay.io/org/${image}`);
      expect(exported).toMatchObject({ code: 0, stderr: '' });
      expect(await files()).toEqual([...written, 'f.tar.old', 'f.tar.sha256'].toSorted());
    }
  });

  test('is not imported where it is another archive than the list beside it says', async () => {
    await using here = await place();
    await here.run('import', await writeTar(here.path('in.tar'), layoutOf(images)));
    await here.run('export', '--output', 'f.tar', 'nginx:1.27');
    await here.run('export', '--output', 'g.tar', '--split', '4KiB', 'quay.io/org/alpine:3');
    await rename(here.path('g.tar.sha256'), here.path('f.tar.sha256'));
    await using other = await place();
    expect(await other.run('import', here.path('f.tar'))).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(
        /^millpond: f\.tar: it is archive sha256:\w+, and the list beside it is of archive sha256:\w+\n$/,
      ),
    });
    expect(await filesIn(other.cacheDir)).toEqual([]);
    // Parts that have been joined are the archive of their list.
    const parts = (await readdir(here.path('.'))).filter((name) => /^g\.tar\.\d+$/.test(name)).toSorted();
    const joined = await Promise.all(parts.map((name) => readFile(here.path(name))));
    await writeFile(here.path('f.tar'), Buffer.concat(joined));
    expect(await other.run('import', here.path('f.tar'))).toMatchObject({ code: 0, stderr: '' });
    await rename(here.path('f.tar.sha256'), here.path('g.tar.sha256'));
    await rename(here.path('f.tar'), here.path('g.tar'));
    expect(await other.run('import', here.path('g.tar.002'))).toMatchObject({ code: 0, stderr: '' });
  });

  test('in more than 999 parts, whose order by name is that of their numbers, and in no more than 9999', async () => {
    await using here = await place();
    const big = localArtifact({ layers: [localBlob(Buffer.alloc(4_200_000, 'layer'))] });
    const sparse = localArtifact({ layers: [localBlob(Buffer.alloc(42_000_000))] });
    const both = { big, sparse };
    const entries = Object.entries(both).map(([name, manifest]) => ({
      manifest,
      annotations: named(`quay.io/org/${name}:1`),
    }));
    await here.run('import', await writeTar(here.path('in.tar'), layoutOf(entries)));
    await here.run('export', '--output', 'whole.tar', 'quay.io/org/big:1');
    const split = await here.run('export', '--output', 'f.tar', '--split', '4KiB', 'quay.io/org/big:1');
    expect(split).toMatchObject({ code: 0, stderr: '' });
    const parts = (await readdir(here.path('.'))).filter((name) => /^f\.tar\.\d+$/.test(name)).toSorted();
    expect([parts.length > 999, parts[0], parts[1]]).toEqual([true, 'f.tar.0001', 'f.tar.0002']);
    const joined = Buffer.concat(await Promise.all(parts.map((name) => readFile(here.path(name)))));
    expect(joined.equals(await readFile(here.path('whole.tar')))).toBe(true);
    await using other = await place();
    expect(await other.run('import', here.path('f.tar.0007'))).toMatchObject({ code: 0, stderr: '' });
    const refused = await here.run('export', '--output', 'g.tar', '--split', '4KiB', 'quay.io/org/sparse:1');
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('and 9999 are the most') });
  });
});
