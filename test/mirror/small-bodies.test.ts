import { expect, test } from 'vitest';
import { ociManifest } from '../../src/oci/media-types.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite, type TestSite } from '../support/site.ts';

const MiB = 1024 * 1024;
const accept = { headers: { accept: ociManifest } };

async function usedBytes(site: TestSite): Promise<number> {
  const text = (await site.get('/metrics')).body.toString();
  return Number(/^millpond_memory_budget_used_bytes (\d+)$/m.exec(text)?.[1]);
}

test('manifests and lists count in limits.memory while they arrive, and are refused past it', async () => {
  await using upstream = await startRegistry();
  await using site = await startTestSite({
    upstreams: { 'docker.io': upstream },
    config: { timeouts: { answer: '1m' }, limits: { memory: '16MiB', perClient: { memory: '16MiB' } } },
  });
  const padding = 'x'.repeat(3 * MiB);
  const body = (part: number) => ({
    schemaVersion: 2,
    mediaType: ociManifest,
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest: `sha256:${'0'.repeat(64)}`, size: 2 },
    layers: [],
    annotations: { padding: `${part}${padding}` },
  });
  const manifests = Array.from({ length: 8 }, (_, part) =>
    upstream.addManifest('library/app', `v${part}`, body(part), ociManifest),
  );
  const digests = manifests.map(({ digest }) => digest);
  const before = await usedBytes(site);
  const stall = upstream.fault(/manifests\/sha256/, { kind: 'stall', afterBytes: 3 * MiB });
  const replies = digests.map((digest) => site.get(`/v2/library/app/manifests/${digest}`, accept));
  const all = Promise.all(replies);
  await expect.poll(() => usedBytes(site)).toBeGreaterThan(before + 5 * MiB);
  // Two wait, which is what manifests of one upstream may take of this budget: the others have been refused.
  const first = await Promise.race(replies);
  expect(first.status).toBe(503);
  expect(first.headers['retry-after']).toBeDefined();
  expect(first.body.toString()).toContain('limits.memory');
  expect(await usedBytes(site)).toBeLessThanOrEqual(16 * MiB);
  // Without the share of one upstream, five would wait.
  expect(await usedBytes(site)).toBeLessThanOrEqual(before + 8 * MiB);
  stall.release();
  const statuses = (await all).map(({ status }) => status);
  expect(new Set(statuses)).toEqual(new Set([200, 503]));
  await expect.poll(() => usedBytes(site)).toBeLessThanOrEqual(before);
  for (const digest of digests) {
    expect(await site.get(`/v2/library/app/manifests/${digest}`, accept)).toMatchObject({
      status: 200,
      sha256: digest,
    });
  }
});
