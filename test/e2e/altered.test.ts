import { readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { plainGet } from '../mirror/plain-client.ts';
import { blobFile, settled } from '../mirror/support.ts';
import { readAll } from '../support/bytes.ts';
import { run } from '../support/processes.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite } from '../support/site.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

const size = 60_000_000;

// A larger file whose bytes were replaced by as many others is given as it is: only what is read whole is hashed again.
test('a manifest or small blob that was replaced by as many other bytes is never given, and is fetched again', async () => {
  await using upstream = await startRegistry();
  await using cache = await temporaryDirectory();
  let now = Date.now();
  const options = { upstreams: { 'docker.io': upstream }, cacheDir: cache.path, now: () => now };
  const image = upstream.addImage('library/app', '1', { layers: [{ size: 64 * 1024, seed: 'small' }] });
  const [layer] = image.layers;
  const paths = [`manifests/${image.digest}`, ...[image.config, layer!].map(({ digest }) => `blobs/${digest}`)];
  {
    await using site = await startTestSite(options);
    for (const path of paths) await site.get(`/v2/library/app/${path}`);
  }
  for (const { digest, size: bytes } of [image, image.config, layer!]) {
    await writeFile(join(cache.path, blobFile(digest)), Buffer.alloc(bytes, 'x'));
  }
  await using site = await startTestSite(options);
  const digests = [image.digest, image.config.digest, layer!.digest];
  await upstream.suspend();
  for (const path of paths) expect((await site.get(`/v2/library/app/${path}`)).status).toBe(502);
  await upstream.resume();
  now += 60_000;
  for (const [index, path] of paths.entries()) {
    const reply = await site.get(`/v2/library/app/${path}`);
    expect(reply).toMatchObject({ status: 200, complete: true, sha256: digests[index] });
  }
  await settled(site);
  for (const digest of digests) expect(digestOf(await readFile(join(cache.path, blobFile(digest))))).toBe(digest);
});

test('pipes and devices in place of blobs are never waited for or read: they are set aside, and the blobs are fetched again', async () => {
  await using upstream = await startRegistry();
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config: { cache: { memory: 0 } } });
  // More than there are threads for files.
  const blobs = [1, 2, 3, 4, 5, 6].map((seed) => upstream.addBlob({ size: seed * 30_000, seed: `odd ${seed}` }));
  const paths = blobs.map(({ digest }) => `/v2/library/app/blobs/${digest}`);
  await Promise.all(paths.map((path) => site.get(path)));
  await settled(site);
  for (const [index, { digest }] of blobs.entries()) {
    const file = join(site.cacheDir, blobFile(digest));
    await rm(file);
    if (index % 2 === 0) await run('mkfifo', [file]);
    else await symlink('/dev/zero', file);
  }
  const replies = await Promise.all(paths.map((path) => site.get(path)));
  for (const [index, { digest }] of blobs.entries()) {
    expect(replies[index]).toMatchObject({ status: 200, complete: true, sha256: digest });
  }
  expect((await site.get('/metrics')).body.toString()).toMatch(/^millpond_altered_blobs_total 6$/m);
  await settled(site);
  for (const { digest } of blobs) expect(digestOf(await readFile(join(site.cacheDir, blobFile(digest))))).toBe(digest);
});

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
