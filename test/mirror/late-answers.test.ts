import { expect, test } from 'vitest';
import { startRegistry } from '../support/registry.ts';
import { startTestSite } from '../support/site.ts';

test('a tag is served stale in time when its HEAD is slow and the manifest behind it does not come', async () => {
  await using upstream = await startRegistry();
  const config = { cache: { tagTtl: '0s' }, timeouts: { answer: '8s' } };
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config });
  const image = upstream.addImage('library/app', '1', { layers: ['old'] });
  const path = '/v2/library/app/manifests/1';
  await site.get(path);
  for (const { digest } of [image.config, ...image.layers]) await site.get(`/v2/library/app/blobs/${digest}`);
  upstream.addImage('library/app', '1', { layers: ['new'] });
  const slow = upstream.fault(({ method }) => method === 'HEAD', { kind: 'pause' });
  const silent = upstream.fault(({ method }) => method === 'GET', { kind: 'silence' });
  const waiting = site.get(path);
  await slow.reached;
  // Together they take longer than the client may wait, though neither does alone.
  const timer = setTimeout(() => slow.release(), 2_400);
  const reply = await waiting;
  clearTimeout(timer);
  expect(silent.met).toBe(1);
  expect(reply).toMatchObject({ status: 200, sha256: image.digest });
  expect(reply.headers['cache-status']).toBe('millpond; hit; detail=stale');
  expect(reply.headers['warning']).toContain('has not answered within 7200 ms');
});
