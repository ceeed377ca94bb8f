import { describe, expect, test } from 'vitest';
import { type ScriptedRegistry, startRegistry } from '../support/registry.ts';
import { patient, startTestSite, type TestSite } from '../support/site.ts';
import { clock, settled } from './support.ts';

const tagPath = '/v2/library/app/manifests/v1';
const second = 1000;

function asked({ requests }: ScriptedRegistry): string[] {
  return requests.map(({ method, path }) => `${method} ${path.replace(/^\/v2\/[^/]+\/app\//, '')}`);
}

/** Pulls everything that a tag names, as a client does. */
async function pullWhole(site: TestSite, image: { layers: readonly { digest: string }[]; config: { digest: string } }) {
  for (const { digest } of [...image.layers, image.config]) await site.get(`/v2/library/app/blobs/${digest}`);
  await settled(site);
}

describe('stale-while-revalidate', () => {
  const config = { cache: { tagTtl: '60s', staleWhileRevalidate: '30s', staleIfError: '1h' } };

  test('a tag past its time is served at once, and what is new is here for the next client', async () => {
    await using upstream = await startRegistry();
    const { now, advance } = clock();
    await using site = await startTestSite({
      upstreams: { 'docker.io': upstream },
      config: { ...config, ...patient },
      now,
    });
    const old = upstream.addImage('library/app', 'v1', { layers: ['old'] });
    await site.get(tagPath);
    const image = upstream.addImage('library/app', 'v1', { layers: ['new'] });
    advance(61 * second);
    upstream.forgetRequests();
    const held = upstream.fault(({ method }) => method === 'HEAD', { kind: 'pause' });
    const served = await site.get(tagPath);
    expect(served.headers['cache-status']).toBe('millpond; hit; detail=stale-while-revalidate');
    expect(served.headers).not.toHaveProperty('warning');
    expect(served.sha256).toBe(old.digest);
    await held.reached;
    // Many ask meanwhile: the upstream is asked once for all of them.
    await Promise.all(Array.from({ length: 5 }, () => site.get(tagPath)));
    held.release();
    await expect.poll(async () => (await site.get(tagPath)).sha256).toBe(image.digest);
    expect((await site.get(tagPath)).headers['cache-status']).toBe('millpond; hit');
    expect(asked(upstream)).toEqual(['HEAD manifests/v1', `GET manifests/${image.digest}`]);
  });

  test('what fails behind an answer is logged, and the tag stays what it was', async () => {
    await using upstream = await startRegistry();
    const { now, advance } = clock();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config, now });
    const image = upstream.addImage('library/app', 'v1');
    await site.get(tagPath);
    await upstream.suspend();
    advance(61 * second);
    expect(await site.get(tagPath)).toMatchObject({ status: 200, sha256: image.digest });
    await expect
      .poll(() => site.logLines.find(({ msg }) => msg === 'tag not confirmed, served as it is'))
      .toMatchObject({ repository: 'docker.io/library/app', tag: 'v1', error: { code: 'UNAVAILABLE' } });
  });

  test('a tag that is gone upstream is gone here as soon as that is known', async () => {
    await using upstream = await startRegistry();
    const { now, advance } = clock();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config, now });
    upstream.addImage('library/app', 'v1');
    await site.get(tagPath);
    upstream.removeTag('library/app', 'v1');
    advance(61 * second);
    expect((await site.get(tagPath)).status).toBe(200);
    await expect.poll(async () => (await site.get(tagPath)).status).toBe(404);
  });

  test('a mirror that stops does not wait for an upstream that it asks behind an answer', async () => {
    await using upstream = await startRegistry();
    const { now, advance } = clock();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config, now });
    upstream.addImage('library/app', 'v1');
    await site.get(tagPath);
    const silent = upstream.fault(({ method }) => method === 'HEAD', { kind: 'silence' });
    advance(61 * second);
    await site.get(tagPath);
    await silent.reached;
    await site.stop();
    expect(site.logLines.filter(({ level }) => Number(level) >= 40)).toEqual([]);
  });

  test('past that time the upstream is asked before the answer', async () => {
    await using upstream = await startRegistry();
    const { now, advance } = clock();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config, now });
    upstream.addImage('library/app', 'v1');
    await site.get(tagPath);
    const image = upstream.addImage('library/app', 'v1', { layers: ['new'] });
    advance(90 * second);
    const answer = await site.get(tagPath);
    expect(answer.sha256).toBe(image.digest);
    expect(answer.headers['cache-status']).toBe('millpond; fwd=miss; stored');
  });
});

test('the first rule that matches a tag decides how long it is fresh', async () => {
  await using upstream = await startRegistry();
  const { now, advance } = clock();
  const tags = [
    { match: 'v*.*.*', repositories: ['library/**'], tagTtl: '365d' },
    { match: 'v*', tagTtl: '10s' },
  ];
  await using site = await startTestSite({ upstreams: { 'docker.io': { urls: [upstream.origin], tags } }, now });
  const statusOf = async (path: string) => (await site.get(path)).headers['cache-status'];
  for (const [repository, tag] of [
    ['library/app', 'v1.2.3'],
    ['team/app', 'v1.2.3'],
    ['library/app', 'v1'],
    ['library/app', 'latest'],
  ] as const) {
    upstream.addImage(repository, tag);
    await site.get(`/v2/${repository}/manifests/${tag}`);
  }
  advance(30 * second);
  expect(await statusOf('/v2/library/app/manifests/v1.2.3')).toBe('millpond; hit');
  expect(await statusOf('/v2/team/app/manifests/v1.2.3')).toBe('millpond; fwd=stale; detail=revalidated');
  expect(await statusOf('/v2/library/app/manifests/v1')).toBe('millpond; fwd=stale; detail=revalidated');
  expect(await statusOf('/v2/library/app/manifests/latest')).toBe('millpond; hit');
  advance(300 * 86_400 * second);
  expect(await statusOf('/v2/library/app/manifests/v1.2.3')).toBe('millpond; hit');
});

describe('an image that cannot be completed is not begun', () => {
  const config = { cache: { tagTtl: '60s', staleIfError: '1h' } };

  test('a stale tag is served if all that it names is here, and refused if not, by GET and HEAD alike', async () => {
    await using upstream = await startRegistry();
    const { now, advance } = clock();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config, now });
    const image = upstream.addImage('library/app', 'v1', { layers: ['a', 'b'] });
    await site.get(tagPath);
    await upstream.suspend();
    advance(61 * second);
    expect((await site.get(tagPath)).status).toBe(502);
    expect((await site.head(tagPath)).status).toBe(502);
    await upstream.resume();
    await pullWhole(site, image);
    await upstream.suspend();
    for (const answer of [await site.get(tagPath), await site.head(tagPath)]) {
      expect(answer.status).toBe(200);
      expect(answer.headers['cache-status']).toBe('millpond; hit; detail=stale');
      expect(answer.headers['age']).toBe('61');
      expect(answer.headers['warning']).toMatch(/^299 - "served from the cache, docker\.io could not confirm it: /);
    }
  });

  test('a fresh tag is served whatever is missing, as long as the upstream is not known to be gone', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config });
    const image = upstream.addImage('library/app', 'v1');
    await site.get(tagPath);
    await upstream.suspend();
    expect((await site.get(tagPath)).headers['cache-status']).toBe('millpond; hit');
    expect((await site.get(`/v2/library/app/manifests/${image.digest}`)).headers['cache-status']).toBe('millpond; hit');
  });

  test('an index is served if one of its images is whole; each image is held to the rule', async () => {
    await using upstream = await startRegistry();
    const { now, advance } = clock();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config, now });
    const amd64 = upstream.addImage('library/app', undefined, { layers: ['amd64'] });
    const arm64 = upstream.addImage('library/app', undefined, { layers: ['arm64'] });
    const index = upstream.addIndex('library/app', 'v1', [
      { manifest: amd64, platform: { os: 'linux', architecture: 'amd64' } },
      { manifest: arm64, platform: { os: 'linux', architecture: 'arm64' } },
    ]);
    for (const reference of ['v1', amd64.digest, arm64.digest]) {
      await site.get(`/v2/library/app/manifests/${reference}`);
    }
    await upstream.suspend();
    advance(61 * second);
    expect((await site.get(tagPath)).status).toBe(502);
    await upstream.resume();
    await pullWhole(site, amd64);
    await upstream.suspend();
    expect(await site.get(tagPath)).toMatchObject({ status: 200, sha256: index.digest });
  });

  test('layers that registries need not hold are not missed', async () => {
    await using upstream = await startRegistry();
    const { now, advance } = clock();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config, now });
    const image = upstream.addImage('library/app', 'v1', {
      layers: ['windows'],
      layerMediaType: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
    });
    await site.get(tagPath);
    await pullWhole(site, { ...image, layers: [] });
    await upstream.suspend();
    advance(61 * second);
    expect((await site.get(tagPath)).status).toBe(200);
  });

  test('offline, a manifest whose blobs are not all here is not found, and the answer says which is missing', async () => {
    await using upstream = await startRegistry();
    const upstreams = { 'docker.io': upstream };
    await using warm = await startTestSite({ upstreams, config });
    const image = upstream.addImage('library/app', 'v1', { layers: ['a', 'b'] });
    const whole = upstream.addImage('library/app', 'v2', { layers: ['c'] });
    await warm.get(tagPath);
    await warm.get('/v2/library/app/manifests/v2');
    await pullWhole(warm, { ...image, layers: image.layers.slice(0, 1) });
    await pullWhole(warm, whole);
    await warm.stop();
    upstream.forgetRequests();
    await using site = await startTestSite({
      upstreams,
      config: { ...config, offline: true },
      cacheDir: warm.cacheDir,
    });
    for (const path of [tagPath, `/v2/library/app/manifests/${image.digest}`]) {
      const refused = await site.get(path);
      expect(refused.status).toBe(404);
      expect(refused.body.toString()).toContain(`lacks a part of docker.io/library/app@${image.digest}`);
      expect(refused.body.toString()).toContain(image.layers[1]?.digest ?? 'none');
      expect((await site.head(path)).status).toBe(404);
    }
    expect(await site.get('/v2/library/app/manifests/v2')).toMatchObject({ status: 200, sha256: whole.digest });
    expect((await site.head('/v2/library/app/manifests/v2')).status).toBe(200);
    expect(upstream.requests).toEqual([]);
  });
});

test('a tag keeps what it stood for until its new manifest is here', async () => {
  await using upstream = await startRegistry();
  const { now, advance } = clock();
  const config = { cache: { tagTtl: '60s', staleIfError: '1h' } };
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config, now });
  const old = upstream.addImage('library/app', 'v1', { layers: ['old'] });
  await site.get(tagPath);
  await pullWhole(site, old);
  const image = upstream.addImage('library/app', 'v1', { layers: ['new'] });
  advance(61 * second);
  // A client looks at the new one and leaves it; then the upstream is gone.
  expect((await site.head(tagPath)).headers['docker-content-digest']).toBe(image.digest);
  await upstream.suspend();
  const answer = await site.get(tagPath);
  expect(answer).toMatchObject({ status: 200, sha256: old.digest });
  expect(answer.headers['cache-status']).toBe('millpond; hit; detail=stale');
});
