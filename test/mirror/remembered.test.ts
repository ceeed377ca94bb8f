import { describe, expect, test } from 'vitest';
import { startRegistry } from '../support/registry.ts';
import { startTestSite } from '../support/site.ts';

const unknown = `sha256:${'0'.repeat(64)}`;

describe('a 404 that the upstream gave a moment ago', () => {
  test.each([`manifests/none`, `manifests/${unknown}`, `blobs/${unknown}`])(
    'is given again without asking, and says so (%s)',
    async (what) => {
      let nowMs = Date.UTC(2026, 0, 1);
      await using upstream = await startRegistry();
      await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, now: () => nowMs });
      const path = `/v2/library/app/${what}`;
      const first = await site.get(path);
      expect(first).toMatchObject({ status: 404, headers: { 'cache-status': 'millpond; detail=error' } });
      const asked = upstream.requests.length;
      for (const passedMs of [1_000, 8_000]) {
        nowMs += passedMs;
        for (const reply of [await site.get(path), await site.head(path)]) {
          expect(reply).toMatchObject({ status: 404, headers: { 'cache-status': 'millpond; hit; detail=negative' } });
        }
      }
      expect(upstream.requests).toHaveLength(asked);
      // Having been asked about does not prolong it.
      nowMs += 2_000;
      expect((await site.get(path)).headers['cache-status']).toBe('millpond; detail=error');
      expect(upstream.requests.length).toBeGreaterThan(asked);
    },
  );
});

describe('a HEAD of a tag that is not here', () => {
  test('says that it was asked about, not that anything was stored', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    upstream.addImage('library/app', '1');
    const head = await site.head('/v2/library/app/manifests/1');
    expect(head).toMatchObject({ status: 200, headers: { 'cache-status': 'millpond; fwd=miss' } });
    const got = await site.get('/v2/library/app/manifests/1');
    expect(got.headers['cache-status']).toBe('millpond; fwd=miss; stored');
  });
});

describe('a manifest that comes without a Content-Type', () => {
  const ofBody = 'application/vnd.docker.distribution.manifest.v2+json';
  test.each([
    { body: `{"schemaVersion":2,"mediaType":"${ofBody}","layers":[]}`, type: ofBody },
    { body: '{"schemaVersion":2,"layers":[]}', type: 'application/vnd.oci.image.manifest.v1+json' },
    { body: '{"schemaVersion":2,"manifests":[]}', type: 'application/vnd.oci.image.index.v1+json' },
    { body: '{"schemaVersion":1,"fsLayers":[]}', type: 'application/vnd.docker.distribution.manifest.v1+json' },
  ])('is served with the type that its body says or is ($type)', async ({ body, type }) => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const { digest } = upstream.addManifest('library/app', '1', body, 'x/y');
    upstream.fault(undefined, { kind: 'headers', headers: { 'Content-Type': undefined } });
    for (const reference of ['1', digest, '1']) {
      const reply = await site.get(`/v2/library/app/manifests/${reference}`);
      expect(reply).toMatchObject({ status: 200, sha256: digest, headers: { 'content-type': type } });
    }
  });

  test('is refused where nothing tells what it is', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    upstream.addManifest('library/app', '1', '{"blobs":[]}', 'x/y');
    upstream.fault(undefined, { kind: 'headers', headers: { 'Content-Type': undefined } });
    expect((await site.get('/v2/library/app/manifests/1')).status).toBe(502);
  });
});

describe('a condition that anything here fulfils', () => {
  test('If-None-Match: * is 304 for manifests and blobs', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const image = upstream.addImage('library/app', '1');
    const headers = { 'if-none-match': '*' };
    for (const what of ['manifests/1', `manifests/${image.digest}`, `blobs/${image.config.digest}`]) {
      const reply = await site.get(`/v2/library/app/${what}`, { headers });
      expect(reply).toMatchObject({ status: 304, receivedBytes: 0 });
    }
  });
});
