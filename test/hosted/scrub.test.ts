import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { HostedRegistry } from '../../src/hosted/hosted-registry.ts';
import { HostedRules } from '../../src/hosted/rules.ts';
import { HostedScrub } from '../../src/hosted/scrub.ts';
import type { Digest } from '../../src/oci/digest.ts';
import { runMillpond } from '../holds/command.ts';
import { localImage } from '../support/images.ts';
import { temporaryFolder } from '../support/site.ts';
import { blobPath, pushBlob, pushImage, send, startHostedSite } from './support.ts';

const image = localImage({ label: 'one' });
const [layer] = image.blobs;

test('a scrub sets damaged content aside, says so, and the next push of it is taken', async () => {
  await using folder = await temporaryFolder();
  const cacheDir = join(folder.path, 'cache');
  {
    await using site = await startHostedSite({ cacheDir });
    for (const name of ['local/app', 'local/web']) await pushImage(site, name, image, '1');
  }
  const file = join(cacheDir, 'hosted', 'blobs', ...layer!.digest.split(':'));
  const bytes = await readFile(file);
  bytes[0]! ^= 1;
  await writeFile(file, bytes);
  const registry = new HostedRegistry({
    folder: join(cacheDir, 'hosted'),
    rules: () =>
      new HostedRules({
        repositories: ['local/**'],
        immutableTags: [],
        mediaTypes: [],
        sparseIndexes: false,
        quotas: [],
      }),
    maxBlobBytes: 1e9,
    maxManifestBytes: 4e6,
    uploadExpiryMs: 1e9,
    graceMs: () => 1e9,
    now: Date.now,
  });
  const found: [Digest, readonly string[]][] = [];
  const scrub = new HostedScrub({
    layout: registry.layout,
    blobs: registry.blobs,
    repositories: registry.repositories,
    usage: registry.usage,
    bytesPerSecond: () => 1e9,
    onDamage: (digest, { repositories }) => void found.push([digest, repositories]),
  });
  const { damaged } = await scrub.run(new AbortController().signal);
  expect({ damaged, found }).toEqual({ damaged: 1, found: [[layer!.digest, ['local/app', 'local/web']]] });
  expect(await readdir(join(cacheDir, 'hosted', 'damaged'))).toHaveLength(1);
  expect((await scrub.run(new AbortController().signal)).damaged).toBe(0);
  await using site = await startHostedSite({ cacheDir });
  expect((await send(site, ['GET', blobPath('local/app', layer!.digest)])).status).toBe(404);
  expect((await pushBlob(site, 'local/app', layer!)).status).toBe(201);
  const got = await send(site, ['GET', blobPath('local/app', layer!.digest)]);
  expect(got.body.equals(layer!.bytes)).toBe(true);
});

test('status shows hosted content apart', async () => {
  await using site = await startHostedSite();
  await pushImage(site, 'local/app', image, '1');
  const { stdout } = await runMillpond(site, ['status', '--json']);
  expect(JSON.parse(stdout)).toMatchObject({
    hosted: { role: 'owner', owner: null, away: null, repositories: 1, damaged: 0 },
  });
  expect(JSON.parse(stdout).hosted.bytes).toBeGreaterThan(0);
  expect((await runMillpond(site, ['status'])).stdout).toMatch(/^hosted +1 repository, /m);
});
