import { describe, expect, test } from 'vitest';
import { dockerSchema1Signed, ociArtifactManifest, ociIndex, ociManifest } from '../../src/oci/media-types.ts';
import { startRegistry } from '../support/registry.ts';
import { patient, startTestSite, temporaryFolder } from '../support/site.ts';
import { settled } from './support.ts';

const MiB = 1024 * 1024;
const unknownDigest = `sha256:${'0'.repeat(64)}`;

describe('a blob that two repositories share', () => {
  test('is read from disk through the second once its upstream has confirmed it there', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const blob = upstream.addBlob({ size: MiB, seed: 'shared' });
    await site.get(`/v2/team/one/blobs/${blob.digest}`);
    await settled(site);
    upstream.forgetRequests();
    for (let turn = 0; turn < 3; turn += 1) {
      const reply = await site.get(`/v2/team/two/blobs/${blob.digest}`);
      expect(reply).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
    }
    expect(upstream.requests.map(({ method, path }) => `${method} ${path}`)).toEqual([
      `HEAD /v2/team/two/blobs/${blob.digest}`,
    ]);
  });

  test('needs no question where a manifest of the second names it', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const one = upstream.addImage('team/one', '1', { layers: [{ size: MiB, seed: 'named' }] });
    const [layer] = one.layers;
    upstream.addImage('team/two', '1', { layers: [layer!] });
    await site.get(`/v2/team/one/blobs/${layer!.digest}`);
    await site.get('/v2/team/two/manifests/1');
    await settled(site);
    upstream.forgetRequests();
    expect(await site.get(`/v2/team/two/blobs/${layer!.digest}`)).toMatchObject({ sha256: layer!.digest });
    expect(upstream.requests).toEqual([]);
  });

  test('is asked for where a manifest names it as a layer that its registry need not hold', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const secret = upstream.addBlob({ size: MiB, seed: 'foreign' }, { repository: 'team/secret' });
    await site.get(`/v2/team/secret/blobs/${secret.digest}`);
    await settled(site);
    const layerMediaType = 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip';
    const config = upstream.addBlob('{}', { repository: 'team/other' });
    const layers = [
      { mediaType: layerMediaType, digest: secret.digest, size: secret.size, urls: ['https://a.example'] },
    ];
    const body = { schemaVersion: 2, mediaType: ociManifest, config: { ...config, source: undefined }, layers };
    upstream.addManifest('team/other', '1', body, ociManifest);
    expect((await site.get('/v2/team/other/manifests/1')).status).toBe(200);
    expect((await site.get(`/v2/team/other/blobs/${secret.digest}`)).status).toBe(404);
  });

  const described = (digest: string) => `{"mediaType":"application/x","digest":"${digest}","size":2}`;
  test.each<[string, string, (its: string, secret: string) => string]>([
    ['blobs of an image', ociManifest, (its, secret) => `"config":${its},"layers":[],"blobs":[${secret}]`],
    ['manifests of an image', ociManifest, (its, secret) => `"config":${its},"layers":[],"manifests":[${secret}]`],
    ['layers of an index', ociIndex, (_, secret) => `"manifests":[],"layers":[${secret}]`],
    ['the config of an index', ociIndex, (_, secret) => `"manifests":[],"config":${secret}`],
    ['layers of an artifact', ociArtifactManifest, (its, secret) => `"blobs":[${its}],"layers":[${secret}]`],
    [
      'blobs of what calls itself an artifact, and is an image to its registry',
      ociManifest,
      (its, secret) => `"mediaType":"${ociArtifactManifest}","config":${its},"layers":[],"blobs":[${secret}]`,
    ],
    [
      'layers of what calls itself schema 1, and is an image to its registry',
      ociManifest,
      (its, secret) =>
        `"mediaType":"${dockerSchema1Signed}","config":${its},"layers":[],"fsLayers":[${secret.replace('digest', 'blobSum')}]`,
    ],
    ['layers, of which others come later in capitals', ociManifest, (_, secret) => `"layers":[${secret}],"LAYERS":[]`],
    [
      'layers, of which others come later with a long s',
      ociManifest,
      (_, secret) => `"layers":[${secret}],"layerſ":[]`,
    ],
    ['layers that are there twice', ociManifest, (its, secret) => `"layers":[${its}],"layers":[${secret}]`],
    [
      'a layer with another digest in capitals',
      ociManifest,
      (_, secret) => `"layers":[${secret.replace('}', `,"DIGEST":"${unknownDigest}"}`)}]`,
    ],
    [
      'a layer with another digest before',
      ociManifest,
      (_, secret) => `"layers":[${secret.replace('{', `{"di\\u0067est":"${unknownDigest}",`)}]`,
    ],
  ])('is asked for where a manifest names it as %s, which its registry need not look at', async (_, type, members) => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const secret = upstream.addBlob({ size: MiB, seed: 'unseen' }, { repository: 'team/secret' });
    await site.get(`/v2/team/secret/blobs/${secret.digest}`);
    await settled(site);
    const its = upstream.addBlob('{}', { repository: 'team/other' });
    const body = `{"schemaVersion":2,${members(described(its.digest), described(secret.digest))}}`;
    upstream.addManifest('team/other', '1', body, type);
    expect((await site.get('/v2/team/other/manifests/1')).status).toBe(200);
    expect((await site.get(`/v2/team/other/blobs/${secret.digest}`)).status).toBe(404);
    expect(await site.get(`/v2/team/other/blobs/${its.digest}`)).toMatchObject({ status: 200, sha256: its.digest });
  });

  test.each([
    { status: 404, code: 'BLOB_UNKNOWN', shown: 404 },
    { status: 403, code: 'DENIED', shown: 403 },
    { status: 401, code: 'DENIED', shown: 403 },
  ])('stays private where the upstream says $status', async ({ status, code, shown }) => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const secret = upstream.addImage('team/secret', '1', { layers: [{ size: MiB, seed: 'secret' }] });
    const digest = secret.layers[0]!.digest;
    await site.get('/v2/team/secret/manifests/1');
    await site.get(`/v2/team/secret/blobs/${digest}`);
    await settled(site);
    upstream.fault(({ path }) => path.startsWith('/v2/team/other/'), { kind: 'status', status });
    for (const path of [`blobs/${digest}`, `manifests/${secret.digest}`]) {
      const refused = await site.get(`/v2/team/other/${path}`);
      expect(refused.status).toBe(shown);
      expect(refused.headers['www-authenticate']).toBeUndefined();
      expect((await site.head(`/v2/team/other/${path}`)).status).toBe(shown);
    }
    const refused = await site.get(`/v2/team/other/blobs/${digest}`);
    expect(JSON.parse(refused.body.toString())).toMatchObject({ errors: [{ code }] });
  });

  test('stays private while it is being filled', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const blob = upstream.addBlob({ size: MiB, seed: 'filling' }, { repository: 'team/secret' });
    const stall = upstream.fault(blob.digest, { kind: 'stall', afterBytes: MiB / 2 });
    const allowed = site.get(`/v2/team/secret/blobs/${blob.digest}`);
    await stall.reached;
    const refused = await site.get(`/v2/team/other/blobs/${blob.digest}`);
    expect(refused.status).toBe(404);
    stall.release();
    expect(await allowed).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
    expect((await site.get(`/v2/team/other/blobs/${blob.digest}`)).status).toBe(404);
  });

  test('asked for by one who may not read it first is not refused to one who may', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const blob = upstream.addBlob({ size: MiB, seed: 'both' }, { repository: 'team/secret' });
    const [refused, allowed] = await Promise.all([
      site.get(`/v2/team/other/blobs/${blob.digest}`),
      site.get(`/v2/team/secret/blobs/${blob.digest}`),
    ]);
    expect(refused.status).toBe(404);
    expect(allowed).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
  });

  test('that neither may read is refused to each in the words of its own repository', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config: patient });
    const blob = upstream.addBlob({ size: MiB, seed: 'neither' });
    const pause = upstream.fault(/team\/one/, { kind: 'pause' });
    upstream.fault(/team\/one/, { kind: 'status', status: 403 });
    upstream.fault(/team\/two/, { kind: 'status', status: 404 });
    const one = site.get(`/v2/team/one/blobs/${blob.digest}`);
    await pause.reached;
    const two = site.get(`/v2/team/two/blobs/${blob.digest}`);
    // Turns of the same event loop: meanwhile the second waits for the same fill.
    for (let turn = 0; turn < 5; turn += 1) await site.get('/healthz');
    pause.release();
    for (const [reply, status, own, foreign] of [
      [await one, 403, 'team/one', 'team/two'],
      [await two, 404, 'team/two', 'team/one'],
    ] as const) {
      expect(reply.status).toBe(status);
      expect(reply.body.toString()).toContain(own);
      expect(reply.body.toString()).not.toContain(foreign);
    }
  });

  test('at two upstreams is fetched from each by its own clients: one that stalls or fails costs the other nothing', async () => {
    await using first = await startRegistry();
    await using second = await startRegistry();
    const upstreams = { 'one.example': first, 'two.example': second };
    await using site = await startTestSite({ upstreams });
    const blob = first.addBlob({ size: MiB, seed: 'two upstreams' });
    second.addBlob({ size: MiB, seed: 'two upstreams' });
    const stall = first.fault(blob.digest, { kind: 'stall', afterBytes: MiB / 2 });
    const one = site.get(`/v2/app/blobs/${blob.digest}?ns=one.example`);
    await stall.reached;
    const two = await site.get(`/v2/app/blobs/${blob.digest}?ns=two.example`);
    expect(two).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
    expect(second.requests.map(({ method }) => method)).toEqual(['GET']);
    expect(second.bytesSent(blob.digest)).toBe(MiB);
    stall.release();
    expect(await one).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
    await settled(site);
    first.forgetRequests();
    second.forgetRequests();
    for (const ns of ['one.example', 'two.example']) {
      expect((await site.get(`/v2/app/blobs/${blob.digest}?ns=${ns}`)).sha256).toBe(blob.digest);
    }
    expect([...first.requests, ...second.requests]).toEqual([]);
  });
});

describe('an image that two repositories share', () => {
  const platform = { os: 'linux', architecture: 'amd64' };

  test("is the second one's, to its last blob, once its upstream has confirmed its manifests there", async () => {
    await using upstream = await startRegistry();
    await using folder = await temporaryFolder();
    const upstreams = { 'docker.io': upstream };
    const one = upstream.addImage('team/one', '1', { layers: ['base', 'shared'] });
    const { config, layers, digest } = upstream.addImage('team/two', undefined, one);
    expect(digest).toBe(one.digest);
    const index = upstream.addIndex('team/two', '1', [
      { manifest: one, platform },
      {
        manifest: upstream.addImage('team/two', undefined, { layers: ['other'] }),
        platform: { ...platform, os: 'plan9' },
      },
    ]);
    const blobs = [config, ...layers].map((blob) => `blobs/${blob.digest}`);
    const paths = ['manifests/1', `manifests/${index.digest}`, `manifests/${digest}`, ...blobs];
    {
      await using site = await startTestSite({ upstreams, cacheDir: folder.path });
      for (const path of ['manifests/1', ...blobs]) await site.get(`/v2/team/one/${path}`);
      await settled(site);
      upstream.forgetRequests();
      for (const path of [...paths, ...paths]) expect((await site.get(`/v2/team/two/${path}`)).status).toBe(200);
      expect(upstream.requests.map(({ method, path }) => `${method} ${path}`)).toEqual([
        'GET /v2/team/two/manifests/1',
        `HEAD /v2/team/two/manifests/${digest}`,
      ]);
    }
    await using site = await startTestSite({ upstreams, cacheDir: folder.path, config: { offline: true } });
    for (const path of paths) expect((await site.get(`/v2/team/two/${path}`)).status).toBe(200);
  });

  test('needs one question where a client asks what the tag is, and then for the manifest by its digest', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const one = upstream.addImage('team/one', '1', { layers: ['base'] });
    upstream.addImage('team/two', '1', one);
    const blobs = [one.config, ...one.layers].map((blob) => `blobs/${blob.digest}`);
    for (const path of ['manifests/1', ...blobs]) await site.get(`/v2/team/one/${path}`);
    await settled(site);
    upstream.forgetRequests();
    expect((await site.head('/v2/team/two/manifests/1')).status).toBe(200);
    for (const path of [`manifests/${one.digest}`, ...blobs]) {
      expect((await site.get(`/v2/team/two/${path}`)).status).toBe(200);
    }
    expect(upstream.requests.map(({ path }) => path)).toEqual(['/v2/team/two/manifests/1']);
  });

  test('stays private where an index of the second only names it', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const secret = upstream.addImage('team/secret', '1', { layers: ['secret'] });
    upstream.addIndex('team/other', '1', [{ manifest: secret, platform }]);
    const blobs = [secret.config, ...secret.layers].map((blob) => `blobs/${blob.digest}`);
    for (const path of ['manifests/1', ...blobs]) await site.get(`/v2/team/secret/${path}`);
    await settled(site);
    for (const path of ['manifests/1', `manifests/${secret.digest}`]) {
      expect((await site.get(`/v2/team/other/${path}`)).status).toBe(200);
    }
    for (const path of blobs) expect((await site.get(`/v2/team/other/${path}`)).status).toBe(404);
  });
});

test('a HEAD of a blob that is not here asks the upstream and begins no fill', async () => {
  await using upstream = await startRegistry();
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
  const blob = upstream.addBlob({ size: MiB, seed: 'headed' });
  const head = await site.head(`/v2/library/app/blobs/${blob.digest}`);
  expect(head).toMatchObject({ status: 200, receivedBytes: 0 });
  expect(head.headers).toMatchObject({ 'content-length': String(MiB), 'docker-content-digest': blob.digest });
  expect(upstream.requests.map(({ method }) => method)).toEqual(['HEAD']);
});
