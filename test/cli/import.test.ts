import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { filesIn } from '../mirror/support.ts';
import { json } from '../support/client.ts';
import { type LocalBlob, localArtifact, localBlob, localImage, tarArchive } from '../support/images.ts';
import {
  fileOf,
  type LayoutFiles,
  type LayoutImage,
  layoutOf,
  named,
  writeFolder,
  writeTar,
} from '../support/layouts.ts';
import { startTestSite } from '../support/site.ts';
import { alpine, expectServed, images, index, place, served } from './archive-place.ts';

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

  test('under another name, with the attachments of the image', async () => {
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

describe('a blob with wrong bytes is reported, and the exit code is 1,', () => {
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
