import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { lstat, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { blobFile } from '../mirror/support.ts';
import { json } from '../support/client.ts';
import { type LocalManifest, localArtifact, localBlob, localIndex } from '../support/images.ts';
import { fileOf, layoutOf, named, writeTar } from '../support/layouts.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite } from '../support/site.ts';
import { everything, sbom, sbomSignature, signature, tag } from './archive-attachments.ts';
import { alpine, expectServed, images, index, place, served } from './archive-place.ts';

describe('export', () => {
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
});
