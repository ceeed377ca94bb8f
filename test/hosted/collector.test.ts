import { readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { HostedRegistry } from '../../src/hosted/hosted-registry.ts';
import { type LocalManifest, localBlob, localImage, localIndex } from '../support/images.ts';
import { startTestSite, type TestSite, temporaryFolder } from '../support/site.ts';
import { registryIn } from './registry.ts';
import { blobPath, pushBlob, pushImage, send } from './support.ts';

const repository = 'local/app';
const hourMs = 3_600_000;
const { signal } = new AbortController();

interface Clock {
  nowMs: number;
}

function openRegistry(folder: string, clock: Clock, graceMs = 24 * hourMs): HostedRegistry {
  return registryIn(folder, { uploadExpiryMs: hourMs, graceMs: () => graceMs, now: () => clock.nowMs });
}

async function push(registry: HostedRegistry, name: string, manifest: LocalManifest, tags: readonly string[] = []) {
  for (const { digest, bytes } of manifest.blobs) await registry.blobs.put(name, digest, bytes);
  for (const child of manifest.manifests) await push(registry, name, child);
  return await registry.manifests.put(name, { bytes: manifest.bytes, contentType: manifest.mediaType, tags });
}

async function lacking(registry: HostedRegistry, name: string, manifest: LocalManifest): Promise<string[]> {
  const missing: string[] = [];
  for (const { digest } of [manifest, ...manifest.blobs]) {
    if ((await registry.blobs.get(name, digest)) === undefined) missing.push(digest);
  }
  for (const child of manifest.manifests) missing.push(...(await lacking(registry, name, child)));
  return missing;
}

describe('a collection', () => {
  test('removes what no manifest names after the grace, and nothing that one names', async () => {
    await using folder = await temporaryFolder();
    const clock = { nowMs: Date.now() };
    const registry = openRegistry(folder.path, clock);
    const index = localIndex('kept', ['amd64', 'arm64']);
    const deleted = localImage({ label: 'deleted' });
    const loose = localBlob('of a push that was never completed');
    await push(registry, repository, index);
    await push(registry, repository, deleted, ['1']);
    await push(registry, 'local/other', deleted, ['1']);
    await registry.blobs.put(repository, loose.digest, loose.bytes);
    await registry.blobs.put('local/only-blobs', loose.digest, loose.bytes);
    await registry.manifests.delete(repository, deleted.digest);

    clock.nowMs += 23 * hourMs;
    expect(await registry.collector.collect(signal)).toMatchObject({ blobs: 0, unlinkedBytes: 0 });
    clock.nowMs += 2 * hourMs;
    expect(await registry.collector.collect(signal)).toMatchObject({ blobs: 4, unlinkedBytes: 0 });
    expect(await lacking(registry, repository, index)).toEqual([]);
    expect(await lacking(registry, repository, deleted)).toHaveLength(3);
    expect(await lacking(registry, 'local/other', deleted)).toEqual([]);
    expect(await registry.blobs.size(loose.digest, undefined)).toBeUndefined();
    expect(await registry.collector.collect(signal)).toMatchObject({ blobs: 0 });
  });

  test('removes nothing of a repository with a manifest that it cannot read', async () => {
    await using folder = await temporaryFolder();
    const clock = { nowMs: Date.now() };
    const registry = openRegistry(folder.path, clock);
    const image = localImage({ label: 'damaged' });
    await push(registry, repository, image);
    const path = registry.layout.blobLink(repository, image.digest);
    await rm(path);
    await writeFile(path, '{');
    clock.nowMs += 48 * hourMs;
    const loose = localBlob('of another repository');
    await registry.blobs.put('local/other', loose.digest, loose.bytes);
    clock.nowMs += 48 * hourMs;
    const { blobs, skipped } = await registry.collector.collect(signal);
    expect({ blobs, skipped }).toEqual({
      blobs: 1,
      skipped: [{ repository, error: expect.stringContaining('not JSON') as string }],
    });
    expect(await lacking(registry, repository, image)).toEqual([]);
  });

  test('leaves an image whole that is pushed meanwhile', async () => {
    await using folder = await temporaryFolder();
    const clock = {
      get nowMs() {
        return Date.now();
      },
    };
    // Without a grace, a blob can go before its manifest comes; after the 201 of the manifest it cannot.
    const registry = openRegistry(folder.path, clock, 0);
    const stop = new AbortController();
    let collections = 0;
    const collecting = (async () => {
      while (!stop.signal.aborted) {
        await registry.collector.collect(signal);
        collections += 1;
      }
    })();
    const taken: LocalManifest[] = [];
    for (let at = 0; at < 300 && taken.length < 30; at += 1) {
      const image = localImage({ label: `image ${at % 100}` });
      const isTaken = await push(registry, repository, image).then(
        () => true,
        () => false,
      );
      if (isTaken) taken.push(image);
    }
    stop.abort();
    await collecting;
    expect(taken.length).toBeGreaterThan(0);
    expect(collections).toBeGreaterThan(0);
    for (const image of taken) expect(await lacking(registry, repository, image)).toEqual([]);
  });
});

function start(cacheDir: string, clock: Clock): Promise<TestSite> {
  return startTestSite({
    upstreams: { 'registry.test': { origin: 'http://127.0.0.1:1' } },
    config: { hosted: { repositories: ['local/**'] } },
    cacheDir,
    now: () => clock.nowMs,
  });
}

function untilCollected(site: TestSite): Promise<void> {
  return expect.poll(() => site.logLines.some(({ msg }) => msg === 'hosted blobs collected')).toBe(true);
}

test('a blob that was announced to a client is kept for the grace from then on', async () => {
  await using folder = await temporaryFolder();
  const clock = { nowMs: Date.now() };
  const [asked, posted, mounted, forgotten] = ['a', 'b', 'c', 'd'].map((text) => localBlob(text));
  if (!asked || !posted || !mounted || !forgotten) throw new Error('four blobs');
  {
    await using site = await start(folder.path, clock);
    for (const blob of [asked, posted, mounted, forgotten]) await pushBlob(site, repository, blob);
    clock.nowMs += 20 * hourMs;
    const uploads = `/v2/${repository}/blobs/uploads/`;
    expect((await send(site, ['HEAD', blobPath(repository, asked.digest)])).status).toBe(200);
    expect((await send(site, ['POST', `${uploads}?digest=${posted.digest}`])).status).toBe(201);
    expect((await send(site, ['POST', `${uploads}?mount=${mounted.digest}&from=local/x`])).status).toBe(201);
  }
  clock.nowMs += 10 * hourMs;
  await using site = await start(folder.path, clock);
  await untilCollected(site);
  const statusOf = async ({ digest }: { digest: (typeof asked)['digest'] }) =>
    (await send(site, ['GET', blobPath(repository, digest)])).status;
  expect(await Promise.all([asked, posted, mounted, forgotten].map(statusOf))).toEqual([200, 200, 200, 404]);
});

test('a start removes files that no repository links and files that were not finished', async () => {
  await using folder = await temporaryFolder();
  const clock = { nowMs: Date.now() };
  const image = localImage({ label: 'one' });
  {
    await using site = await start(folder.path, clock);
    await pushImage(site, repository, image, '1');
  }
  const hosted = join(folder.path, 'hosted');
  const unlinked = join(hosted, 'blobs', 'sha256', 'a'.repeat(64));
  const leftovers = ['uploads', join('repositories', repository, '_tags')].map((at) => join(hosted, at, '.new-1'));
  const before = new Date(clock.nowMs - 60_000);
  for (const path of [unlinked, ...leftovers]) {
    await writeFile(path, 'x');
    await utimes(path, before, before);
  }
  await using site = await start(folder.path, clock);
  await untilCollected(site);
  expect(site.logLines.find(({ msg }) => msg === 'hosted blobs collected')).toMatchObject({ bytes: 1, leftovers: 2 });
  expect(await readdir(join(hosted, 'blobs', 'sha256'))).not.toContain('a'.repeat(64));
  expect(await readdir(join(hosted, 'uploads'))).toEqual([]);
  const { body } = await send(site, ['GET', `/v2/${repository}/manifests/1`]);
  expect(body.equals(image.bytes)).toBe(true);
});
