import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { blobFile, filesIn, filesOf, settled } from '../mirror/support.ts';
import { readAll } from '../support/bytes.ts';
import { json } from '../support/client.ts';
import type { AddedImage } from '../support/contents.ts';
import { mountRequirements, SmallDisk } from '../support/mounts.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite, type TestSite } from '../support/site.ts';
import { describeWith } from '../support/tools.ts';

const MB = 1_000_000;
const repository = 'library/app';

describeWith(mountRequirements(), 'a disk of 64 MB and images of 200 MB', () => {
  test('every pull succeeds, nothing partial stays, small things are kept, and all is kept once there is room', async () => {
    await using upstream = await startRegistry();
    using disk = new SmallDisk('64m');
    let nowMs = Date.now();
    await using site = await startTestSite({
      upstreams: { 'docker.io': upstream },
      cacheDir: join(disk.path, 'cache'),
      now: () => nowMs,
    });
    const one = upstream.addImage(repository, 'one', { layers: [{ size: 200 * MB, seed: 'one layer' }] });
    const layers = [1, 2, 3, 4].map((part) => ({ size: 50 * MB, seed: `part ${part}` }));
    const four = upstream.addImage(repository, 'four', { layers });
    expect(await readiness(site)).toMatchObject({ status: 'ok' });

    await pull(site, one, { clients: 2 });
    expect(await readiness(site)).toMatchObject({
      status: 'degraded',
      reasons: expect.arrayContaining([expect.stringContaining('ENOSPC')]) as string[],
    });
    expect(await partials(site)).toEqual([]);
    await pull(site, four, { clients: 1 });
    expect(await partials(site)).toEqual([]);
    for (const { digest } of four.layers) await rm(join(site.cacheDir, blobFile(digest)), { force: true });

    const small = upstream.addImage(repository, 'small', { layers: [{ size: 5 * MB, seed: 'small' }] });
    await pull(site, small, { clients: 2 });
    expect(await filesOf(site)).toContain(blobFile(small.layers[0]!.digest));

    disk.resize('600m');
    await pull(site, one, { clients: 1 });
    await pull(site, four, { clients: 1 });
    const kept = await filesOf(site);
    for (const { digest } of [...one.layers, ...four.layers]) expect(kept).toContain(blobFile(digest));
    expect(await partials(site)).toEqual([]);
    upstream.forgetRequests();
    const tail = { headers: { range: 'bytes=-1000' } };
    expect(await site.get(`/v2/${repository}/blobs/${one.layers[0]!.digest}`, tail)).toMatchObject({ status: 206 });
    expect(upstream.requests.filter(({ path }) => path.includes('/blobs/'))).toEqual([]);
    nowMs += 61_000;
    expect(await readiness(site)).toMatchObject({ status: 'ok', reasons: [] });
  });

  test('a part of a blob that does not fit is given too', async () => {
    await using upstream = await startRegistry();
    using disk = new SmallDisk('64m');
    await using site = await startTestSite({
      upstreams: { 'docker.io': { urls: [upstream.origin], connectionsPerBlob: 3 } },
      cacheDir: join(disk.path, 'cache'),
    });
    const blob = upstream.addBlob({ size: 120 * MB, seed: 'parts' });
    const path = `/v2/${repository}/blobs/${blob.digest}`;
    const offsets = [0, 30, 60, 90].map((megabytes) => megabytes * MB);
    const parts = await Promise.all(
      offsets.map((start) => site.get(path, { headers: { range: `bytes=${start}-${start + 30 * MB - 1}` } })),
    );
    expect(parts.map(({ status, complete }) => [status, complete])).toEqual(offsets.map(() => [206, true]));
    expect(Buffer.concat(parts.map(({ body }) => body)).equals(readAll(blob.source))).toBe(true);
    expect(await partials(site)).toEqual([]);
  });
});

describeWith(mountRequirements(), 'a mirror that is started', () => {
  test('on a disk without a free byte serves what is stored, and makes room', async () => {
    await using upstream = await startRegistry();
    using disk = new SmallDisk('8m');
    const options = { upstreams: { 'docker.io': upstream }, cacheDir: join(disk.path, 'cache') };
    const image = upstream.addImage(repository, 'stored', { layers: [{ size: 3 * MB, seed: 'stored' }] });
    {
      await using site = await startTestSite(options);
      await pull(site, image, { clients: 1 });
      await settled(site);
    }
    await expect(writeFile(join(disk.path, 'filler'), Buffer.alloc(8 * MB))).rejects.toThrow('ENOSPC');
    upstream.forgetRequests();
    {
      await using site = await startTestSite({ ...options, config: { cache: { minFree: 0 } } });
      await pull(site, image, { clients: 1 });
      expect(upstream.requests).toEqual([]);
    }
    await using site = await startTestSite({ ...options, config: { cache: { minFree: '1MiB' } } });
    await expect.poll(() => filesOf(site)).toEqual([]);
    await expect
      .poll(async () => (await site.get('/metrics')).body.toString())
      .toMatch(/^millpond_evictions_total{reason="free"} 3$/m);
  });

  test('on a read-only disk refuses in one sentence', async () => {
    using disk = new SmallDisk('8m');
    const options = {
      upstreams: { 'docker.io': { origin: 'http://127.0.0.1:9' } },
      cacheDir: join(disk.path, 'cache'),
    };
    await (await startTestSite(options)).stop();
    using _ = disk.makeReadOnly();
    await expect(startTestSite(options)).rejects.toThrow(
      `the file system of the cache directory ${options.cacheDir} is read-only (EROFS): set "offline: true" to serve what it has`,
    );
  });
});

describeWith(mountRequirements(), 'a disk that becomes read-only', () => {
  test('in the middle of a blob: pulls go on, and are kept again when it can be written', async () => {
    await using upstream = await startRegistry();
    using disk = new SmallDisk('256m');
    await using site = await startTestSite({
      upstreams: { 'docker.io': upstream },
      cacheDir: join(disk.path, 'cache'),
    });
    const image = upstream.addImage(repository, 'first', { layers: [{ size: 20 * MB, seed: 'read-only' }] });
    const later = upstream.addImage(repository, 'later', { layers: [{ size: 5 * MB, seed: 'later' }] });
    const stall = upstream.fault(image.layers[0]?.digest, { kind: 'stall', afterBytes: 10 * MB });
    const first = pull(site, image, { clients: 3 });
    await stall.reached;
    {
      using _ = disk.makeReadOnly();
      stall.release();
      await first;
      await settled(site);
      await pull(site, later, { clients: 2 });
      expect(await readiness(site)).toMatchObject({
        status: 'degraded',
        reasons: expect.arrayContaining([expect.stringContaining('EROFS')]) as string[],
      });
    }
    await pull(site, image, { clients: 1 });
    await pull(site, later, { clients: 1 });
    expect(await partials(site)).toEqual([]);
    const kept = await filesOf(site);
    for (const { digest } of [...image.layers, ...later.layers]) expect(kept).toContain(blobFile(digest));
  });
});

test.each(['ingest', 'blobs'])(
  'a folder that is deleted (%s): the pull under way succeeds, and later ones are kept',
  async (folder) => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const image = upstream.addImage(repository, 'first', { layers: [{ size: 20 * MB, seed: folder }] });
    const [layer] = image.layers;
    const stall = upstream.fault(layer?.digest, { kind: 'stall', afterBytes: 10 * MB });
    const pulling = pull(site, image, { clients: 3 });
    await stall.reached;
    // The other two have arrived: nothing is written to the folder while it is deleted.
    const arrived = [image, image.config].map(({ digest }) => blobFile(digest)).toSorted();
    const blobs = async () => (await filesIn(site.cacheDir)).filter((file) => file.startsWith('blobs/')).toSorted();
    await expect.poll(blobs).toEqual(arrived);
    await rm(join(site.cacheDir, folder), { recursive: true });
    stall.release();
    await pulling;
    await settled(site);
    await pull(site, image, { clients: 2 });
    expect(await filesOf(site)).toContain(blobFile(image.layers[0]!.digest));
    expect(await partials(site)).toEqual([]);
  },
);

/** Each client has the manifest and every blob, whole and right. */
async function pull(site: TestSite, image: AddedImage, { clients }: { readonly clients: number }): Promise<void> {
  const base = `/v2/${repository}`;
  const manifest = await site.get(`${base}/manifests/${image.digest}`);
  expect(manifest).toMatchObject({ status: 200, complete: true, sha256: image.digest });
  const wanted = [image.config, ...image.layers].flatMap((blob) => Array.from({ length: clients }, () => blob));
  await Promise.all(
    wanted.map(async ({ digest, size }) => {
      const reply = await site.get(`${base}/blobs/${digest}`, { keepBody: false });
      expect(reply).toMatchObject({ status: 200, complete: true, receivedBytes: size, sha256: digest });
    }),
  );
}

async function readiness(site: TestSite): Promise<unknown> {
  return json(await site.get('/readyz'));
}

async function partials(site: TestSite): Promise<string[]> {
  return (await filesOf(site)).filter((file) => file.startsWith('ingest'));
}
