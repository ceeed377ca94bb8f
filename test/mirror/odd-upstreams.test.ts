import { describe, expect, test } from 'vitest';
import { dockerSchema1Signed, ociManifest } from '../../src/oci/media-types.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite } from '../support/site.ts';
import { settled } from './support.ts';

const MiB = 1024 * 1024;
const path = '/v2/library/app';

describe('a tag whose digest cannot be had', () => {
  test('since it has moved is resolved again at once, within its tagTtl', async () => {
    await using upstream = await startRegistry();
    const upstreams = { 'docker.io': { urls: [upstream.origin], tagTtl: '10m' } };
    await using site = await startTestSite({ upstreams });
    const before = upstream.addImage('library/app', '1', { layers: ['before'] });
    expect((await site.head(`${path}/manifests/1`)).headers['docker-content-digest']).toBe(before.digest);
    const after = upstream.addImage('library/app', '1', { layers: ['after'] });
    upstream.removeManifest('library/app', before.digest);
    expect(await site.get(`${path}/manifests/1`)).toMatchObject({ status: 200, sha256: after.digest });
    expect((await site.head(`${path}/manifests/1`)).headers['docker-content-digest']).toBe(after.digest);
  });

  test('since the upstream serves nothing by digest is served by a GET of the tag', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const image = upstream.addImage('library/app', '1');
    upstream.fault(/manifests\/sha256:/, { kind: 'status', status: 404 });
    for (let turn = 0; turn < 2; turn += 1) {
      expect(await site.get(`${path}/manifests/1`)).toMatchObject({ status: 200, sha256: image.digest });
    }
  });

  test('is not found where the tag is gone, too', async () => {
    await using upstream = await startRegistry();
    const upstreams = { 'docker.io': { urls: [upstream.origin], tagTtl: '10m' } };
    await using site = await startTestSite({ upstreams });
    const image = upstream.addImage('library/app', '1');
    await site.head(`${path}/manifests/1`);
    upstream.removeTag('library/app', '1');
    upstream.removeManifest('library/app', image.digest);
    expect((await site.get(`${path}/manifests/1`)).status).toBe(404);
    expect((await site.head(`${path}/manifests/1`)).status).toBe(404);
  });
});

test.each([dockerSchema1Signed, 'application/vnd.example.manifest+json'])(
  'a manifest that is given only to those who accept %s is found for a client that does, by tag and by digest',
  async (mediaType) => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const body = { schemaVersion: 1, name: 'library/app', tag: 'old', fsLayers: [], history: [] };
    const { digest } = upstream.addManifest('library/app', 'old', body, mediaType);
    const isRefused = (accept: string | undefined): boolean => accept?.includes(mediaType) !== true;
    upstream.fault(({ headers }) => isRefused(headers.accept), { kind: 'status', status: 404 });
    const own = { headers: { accept: `${ociManifest}, ${mediaType}` } };
    for (const reference of ['old', digest]) {
      expect((await site.get(`${path}/manifests/${reference}`, { headers: { accept: ociManifest } })).status).toBe(404);
    }
    // What was not found for the one is remembered for its question alone.
    for (const reference of [digest, 'old']) {
      expect(await site.get(`${path}/manifests/${reference}`, own)).toMatchObject({ status: 200, sha256: digest });
    }
  },
);

test.each([
  'application/json',
  'application/octet-stream',
  'text/plain; charset=utf-8',
  'application/x-www-form-urlencoded',
  'null',
])('a manifest that comes as %s has the type that it states, or that its form tells', async (contentType) => {
  await using upstream = await startRegistry();
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
  const { config } = upstream.addImage('library/app', 'stated');
  const { mediaType, digest, size } = config;
  const body = { schemaVersion: 2, config: { mediaType, digest, size }, layers: [] };
  upstream.addManifest('library/app', 'formed', body, ociManifest);
  upstream.fault(/manifests/, { kind: 'headers', headers: { 'Content-Type': contentType } });
  for (const tag of ['stated', 'formed']) {
    for (const reply of [await site.head(`${path}/manifests/${tag}`), await site.get(`${path}/manifests/${tag}`)]) {
      expect(reply.headers['content-type']).toBe(ociManifest);
    }
  }
});

test('a HEAD of a blob that is being filled asks no upstream', async () => {
  await using upstream = await startRegistry();
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
  const blob = upstream.addBlob({ size: MiB, seed: 'filling' });
  const stall = upstream.fault(blob.digest, { kind: 'stall', afterBytes: MiB / 2 });
  const get = site.get(`${path}/blobs/${blob.digest}`);
  await stall.reached;
  const head = await site.head(`${path}/blobs/${blob.digest}`);
  expect([head.status, head.headers['content-length']]).toEqual([200, String(MiB)]);
  expect(upstream.requests.map(({ method }) => method)).toEqual(['GET']);
  stall.release();
  expect(await get).toMatchObject({ status: 200, sha256: blob.digest });
});

describe('a HEAD that is told to wait', () => {
  const isHead = ({ method }: { readonly method: string }) => method === 'HEAD';
  const limit = { kind: 'status', status: 429, headers: { 'Retry-After': '60' } } as const;

  async function startLimited() {
    const upstream = await startRegistry();
    let nowMs = Date.now();
    const upstreams = { 'docker.io': { urls: [upstream.origin], tagTtl: '1m' } };
    const site = await startTestSite({ upstreams, now: () => nowMs });
    const image = upstream.addImage('library/app', '1');
    await site.get(`${path}/manifests/1`);
    return {
      upstream,
      site,
      image,
      /** The tag is not fresh any more, and HEADs are limited from now on. */
      limitHeads: () => {
        nowMs += 61_000;
        upstream.fault(isHead, limit);
        upstream.forgetRequests();
      },
      async [Symbol.asyncDispose]() {
        await site[Symbol.asyncDispose]();
        await upstream[Symbol.asyncDispose]();
      },
    };
  }

  test('is believed where a whole image is here: it is served stale, and nothing else is asked', async () => {
    await using scene = await startLimited();
    const { site, upstream, image } = scene;
    for (const { digest } of [image.config, ...image.layers]) await site.get(`${path}/blobs/${digest}`);
    await settled(site);
    scene.limitHeads();
    for (let turn = 0; turn < 2; turn += 1) {
      const reply = await site.get(`${path}/manifests/1`);
      expect([reply.status, reply.headers['cache-status']]).toEqual([200, 'millpond; hit; detail=stale']);
    }
    expect(upstream.requests.map(({ method }) => method)).toEqual(['HEAD']);
  });

  test('is decided by a GET where the image is not whole', async () => {
    await using scene = await startLimited();
    const { site, upstream, image } = scene;
    scene.limitHeads();
    expect(await site.get(`${path}/manifests/1`)).toMatchObject({ status: 200, sha256: image.digest });
    expect(upstream.requests.map(({ method }) => method)).toEqual(['HEAD', 'GET']);
  });
});
