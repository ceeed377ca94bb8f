import { describe, expect, test } from 'vitest';
import { startRegistry } from '../support/registry.ts';
import { startTestSite } from '../support/site.ts';

const MiB = 1024 * 1024;

describe('a blob that is not here', () => {
  test('comes from the upstream with one request, and from disk afterwards', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const blob = upstream.addBlob({ size: 3 * MiB, seed: 1 });
    const first = await site.get(`/v2/library/app/blobs/${blob.digest}`);
    expect(first).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
    expect(first.headers['cache-status']).toBe('millpond; fwd=miss; stored');
    expect(first.headers['content-length']).toBe(String(3 * MiB));
    const second = await site.get(`/v2/library/app/blobs/${blob.digest}`);
    expect(second).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
    expect(second.headers['cache-status']).toBe('millpond; hit');
    expect(upstream.requests.map((request) => `${request.method} ${request.path}`)).toEqual([
      `GET /v2/library/app/blobs/${blob.digest}`,
    ]);
  });
});
