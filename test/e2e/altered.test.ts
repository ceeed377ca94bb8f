import { rm, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { plainGet } from '../mirror/plain-client.ts';
import { blobFile, settled } from '../mirror/support.ts';
import { readAll } from '../support/bytes.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite } from '../support/site.ts';

const size = 60_000_000;

// A file whose bytes were replaced by as many others is given as it is: what is stored is not hashed when it is read.
describe('a stored blob, while a client reads it', () => {
  test('that is deleted is read to its end, and fetched again for the next', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const blob = upstream.addBlob({ size, seed: 'deleted' });
    const path = `/v2/library/app/blobs/${blob.digest}`;
    await site.get(path, { keepBody: false });
    await settled(site);
    const client = plainGet(site.origin + path, readAll(blob.source));
    await client.headers;
    await rm(join(site.cacheDir, blobFile(blob.digest)));
    expect(await client.read()).toBe(size);
    expect(upstream.requestsFor(blob.digest)).toHaveLength(1);
    expect(await site.get(path, { keepBody: false })).toMatchObject({ complete: true, sha256: blob.digest });
    expect(upstream.requestsFor(blob.digest)).toHaveLength(2);
  });

  test('that is truncated cuts that client, and is fetched again for the next', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const blob = upstream.addBlob({ size, seed: 'truncated' });
    const path = `/v2/library/app/blobs/${blob.digest}`;
    await site.get(path, { keepBody: false });
    await settled(site);
    const client = plainGet(site.origin + path, readAll(blob.source));
    await client.headers;
    await truncate(join(site.cacheDir, blobFile(blob.digest)), 50_000_000);
    await expect(client.read()).rejects.toThrow(/^cut after \d+ bytes$/);
    expect(await site.get(path, { keepBody: false })).toMatchObject({ complete: true, sha256: blob.digest });
    expect(upstream.requestsFor(blob.digest)).toHaveLength(2);
  });
});
