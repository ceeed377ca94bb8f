import { expect, test } from 'vitest';
import { startRegistry } from '../support/registry.ts';
import { startTestSite } from '../support/site.ts';
import { filesOf } from './support.ts';

const KB = 1000;

test.each([
  { what: 'says so', chunked: false },
  { what: 'has no length', chunked: true },
])('a blob larger than cache.maxBlobSize that $what is neither given nor kept', async ({ chunked }) => {
  await using upstream = await startRegistry();
  const config = { cache: { maxBlobSize: '1MB' } };
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config });
  const [large, small] = [
    upstream.addBlob({ size: 1500 * KB, seed: 'large' }),
    upstream.addBlob({ size: 900 * KB, seed: 'small' }),
  ];
  if (chunked) upstream.fault(large.digest, { kind: 'chunked' });
  const path = (digest: string) => `/v2/docker.io/library/app/blobs/${digest}`;
  const reply = await site.get(path(large.digest)).catch(() => undefined);
  expect(reply?.status === 200 && reply.complete).toBe(false);
  expect(await site.get(path(small.digest))).toMatchObject({ status: 200, sha256: small.digest });
  expect(
    (await filesOf(site)).filter((file) => file.includes(large.digest.slice(7)) && file.startsWith('blobs')),
  ).toEqual([]);
});
