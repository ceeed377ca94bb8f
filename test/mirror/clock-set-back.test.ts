import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { AddedImage } from '../support/contents.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite, type TestSite } from '../support/site.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { settled } from './support.ts';

const path = '/v2/library/app/manifests/1';

/** Pulls all of an image by its tag. */
async function pull(site: TestSite, image: AddedImage): Promise<void> {
  expect((await site.get(path)).sha256).toBe(image.digest);
  for (const { digest } of [image.config, ...image.layers]) {
    expect((await site.get(`/v2/library/app/blobs/${digest}`)).sha256).toBe(digest);
  }
  await settled(site);
}

test('a tag that was confirmed when the clock was ahead becomes what it is now, and stays that without the upstream', async () => {
  await using upstream = await startRegistry();
  await using cache = await temporaryDirectory();
  const year = 365 * 24 * 60 * 60 * 1000;
  let nowMs = Date.now() + 10 * year;
  const options = { upstreams: { 'docker.io': upstream }, cacheDir: cache.path, now: () => nowMs };
  const before = upstream.addImage('library/app', '1', { config: 'before' });
  {
    await using site = await startTestSite(options);
    await pull(site, before);
  }
  nowMs -= 10 * year;
  const after = upstream.addImage('library/app', '1', { config: 'after' });
  {
    await using site = await startTestSite(options);
    await pull(site, after);
    expect(await site.get(path)).toMatchObject({ sha256: after.digest, headers: { 'cache-status': 'millpond; hit' } });
  }

  // The journal of names says both, the wrong time first.
  await rm(join(cache.path, 'catalog.sqlite'));
  await using site = await startTestSite({ ...options, config: { offline: true } });
  expect((await site.get(path)).sha256).toBe(after.digest);
});
