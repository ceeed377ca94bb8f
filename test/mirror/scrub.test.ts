import { readdir, readFile, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { holdFile, mountRequirements } from '../support/mounts.ts';
import { type ScriptedRegistry, startRegistry } from '../support/registry.ts';
import { startTestSite, type TestSite } from '../support/site.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { describeWith } from '../support/tools.ts';
import { blobFile, settled } from './support.ts';

const day = 24 * 60 * 60 * 1000;
const fast = { every: '1d', rate: '1GiB' };

interface Line {
  readonly msg?: unknown;
  readonly found?: unknown;
  readonly after?: unknown;
  readonly digest?: unknown;
  readonly result?: unknown;
}

function lines(site: TestSite, text: string): Line[] {
  return site.logLines.filter(({ msg }) => msg === text);
}

async function finished(site: TestSite): Promise<Line> {
  await expect.poll(() => lines(site, 'scrub finished')).toHaveLength(1);
  return lines(site, 'scrub finished')[0]!;
}

/** A cache with an image of one larger layer, and the time at which its first scrub is due. */
async function prepared(upstream: ScriptedRegistry, cacheDir: string) {
  const image = upstream.addImage('library/app', '1', { layers: [{ size: 200_000, seed: 'scrub' }] });
  const [layer] = image.layers;
  const startedMs = Date.now();
  const options = { upstreams: { 'docker.io': upstream }, cacheDir, config: { cache: { scrub: fast } } };
  await using site = await startTestSite({ ...options, now: () => startedMs });
  await site.get('/v2/library/app/manifests/1');
  for (const { digest } of [image.config, layer!]) await site.get(`/v2/library/app/blobs/${digest}`);
  await settled(site);
  // What has just come is not read again.
  expect(lines(site, 'scrub started')).toEqual([]);
  return { image, layer: layer!, options: { ...options, now: () => startedMs + 2 * day } };
}

async function rot(file: string, bytes: Buffer): Promise<void> {
  const time = new Date(0);
  await writeFile(file, bytes);
  await utimes(file, time, time);
}

test('everything is read again when it is due, and no sooner; what is altered or gone is fetched again, also manifests', async () => {
  await using upstream = await startRegistry();
  await using cache = await temporaryDirectory();
  const { image, layer, options } = await prepared(upstream, cache.path);
  await rot(join(cache.path, blobFile(layer.digest)), Buffer.alloc(layer.size, 'x'));
  await rot(join(cache.path, blobFile(image.digest)), Buffer.alloc(image.size, 'x'));
  await using site = await startTestSite(options);
  expect(await finished(site)).toMatchObject({ found: { altered: 2, ok: 1 }, fetched: 2 });
  for (const { digest } of [image, layer]) {
    expect(digestOf(await readFile(join(cache.path, blobFile(digest))))).toBe(digest);
    expect((await readdir(join(cache.path, 'quarantine'))).join()).toContain(digest.replace(':', '-'));
  }
  const metrics = (await site.get('/metrics')).body.toString();
  expect(metrics).toMatch(/^millpond_altered_blobs_total 2$/m);
  expect(metrics).toMatch(/^millpond_scrubbed_blobs_total{found="altered"} 2$/m);
  expect(metrics).toMatch(/^millpond_repairs_total{result="fetched"} 2$/m);
  // It is known again, and given to those who may have it.
  await upstream.suspend();
  expect(await site.get(`/v2/library/app/blobs/${layer.digest}`)).toMatchObject({
    complete: true,
    sha256: layer.digest,
  });
});

test('a round that ended when the clock was ahead does not put off the next one until that time', async () => {
  await using upstream = await startRegistry();
  await using cache = await temporaryDirectory();
  const { options } = await prepared(upstream, cache.path);
  const setBackMs = options.now() - 3650 * day;
  {
    await using site = await startTestSite({ ...options, now: () => setBackMs });
    expect(lines(site, 'scrub started')).toEqual([]);
  }
  await using site = await startTestSite({ ...options, now: () => setBackMs + 2 * day });
  expect(await finished(site)).toMatchObject({ found: { ok: 3 } });
});

test('a round goes on after a restart behind the last blob that it has noted', async () => {
  await using upstream = await startRegistry();
  await using cache = await temporaryDirectory();
  const { image, layer, options } = await prepared(upstream, cache.path);
  const inOrder = [image, image.config, layer].map(({ digest }) => digest).toSorted();
  const slow = { ...options, config: { cache: { scrub: { every: '1d', rate: '1KiB' } } } };
  {
    await using site = await startTestSite(slow);
    // The layer takes minutes at this rate.
    await expect.poll(() => lines(site, 'scrub started')).toHaveLength(1);
    await expect
      .poll(async () => (await site.get('/metrics')).body.toString())
      .toMatch(/^millpond_scrubbed_bytes_total [1-9]/m);
  }
  await using site = await startTestSite(options);
  // However far the first one came, the second has read the rest, and tells of all.
  expect(await finished(site)).toMatchObject({ found: { ok: 3 } });
  const [{ after } = {}] = lines(site, 'scrub started');
  const scrubbed = (await site.get('/metrics')).body.toString();
  expect(scrubbed).toContain(
    `millpond_scrubbed_blobs_total{found="ok"} ${after === undefined ? 3 : 2 - inOrder.indexOf(after as typeof layer.digest)}\n`,
  );
});

test('a round that is not wanted any more stops, also in the middle of a file', async () => {
  await using upstream = await startRegistry();
  await using cache = await temporaryDirectory();
  const { options } = await prepared(upstream, cache.path);
  const scrubbedBytes = async (site: TestSite) =>
    /^millpond_scrubbed_bytes_total (\d+)/m.exec((await site.get('/metrics')).body.toString())?.[1];
  {
    await using site = await startTestSite({
      ...options,
      config: { cache: { scrub: { every: '1d', rate: '16KiB' } } },
    });
    await expect.poll(() => scrubbedBytes(site), { interval: 5 }).not.toBe('0');
    await site.reconfigure({ cache: { scrub: { every: 0, rate: '1GiB' } } });
    await expect.poll(() => lines(site, 'scrub stopped'), { interval: 5 }).toHaveLength(1);
    expect(lines(site, 'scrub finished')).toEqual([]);
    expect(lines(site, 'scrub failed, goes on later')).toEqual([]);
  }
  await using site = await startTestSite(options);
  expect(await finished(site)).toMatchObject({ found: { ok: 3 } });
});

describeWith(mountRequirements(), 'a file that is altered and can be neither moved nor removed', () => {
  test('is reported and not served, and the round goes on', async () => {
    await using upstream = await startRegistry();
    await using cache = await temporaryDirectory();
    const { layer, options } = await prepared(upstream, cache.path);
    const path = `/v2/library/app/blobs/${layer.digest}`;
    const file = join(cache.path, blobFile(layer.digest));
    const time = new Date(0);
    {
      await using site = await startTestSite({ ...options, config: { cache: { scrub: { every: '0' } } } });
      await utimes(file, time, time);
      expect(await site.get(path)).toMatchObject({ status: 200, sha256: layer.digest });
    }
    // Its time and size are those that it had when it was right.
    await rot(file, Buffer.alloc(layer.size, 'x'));
    using _ = holdFile(file);
    await using site = await startTestSite(options);
    expect(await finished(site)).toMatchObject({ found: { altered: 1, ok: 2 }, fetched: 0 });
    expect(lines(site, 'scrub could not put it right')).toMatchObject([{ digest: layer.digest }]);
    expect(lines(site, 'scrub failed, goes on later')).toEqual([]);
    expect((await readFile(file)).equals(Buffer.alloc(layer.size, 'x'))).toBe(true);
    expect(await site.get(path)).toMatchObject({ status: 200, complete: true, sha256: layer.digest });
  });
});

test('offline nothing is fetched: what is altered is set aside, the rest is as it was', async () => {
  await using upstream = await startRegistry();
  await using cache = await temporaryDirectory();
  const { image, layer, options } = await prepared(upstream, cache.path);
  await rot(join(cache.path, blobFile(layer.digest)), Buffer.alloc(layer.size, 'x'));
  upstream.forgetRequests();
  await using site = await startTestSite({ ...options, config: { ...options.config, offline: true } });
  expect(await finished(site)).toMatchObject({ found: { altered: 1, ok: 2 }, fetched: 0 });
  expect(lines(site, 'scrub repaired')).toMatchObject([{ digest: layer.digest, result: 'lost' }]);
  expect((await site.get(`/v2/library/app/blobs/${layer.digest}`)).status).toBe(404);
  expect((await site.get(`/v2/library/app/blobs/${image.config.digest}`)).status).toBe(200);
  expect(upstream.requests).toEqual([]);
});

test('a file without a record is read before it is served, and recorded; what is no blob is reported', async () => {
  await using upstream = await startRegistry();
  await using cache = await temporaryDirectory();
  const { options } = await prepared(upstream, cache.path);
  const right = upstream.addBlob({ size: 90_000, seed: 'right' });
  const wrong = upstream.addBlob({ size: 90_000, seed: 'wrong' });
  const lone = Buffer.alloc(80_000, 'lone');
  const put = (digest: string, bytes: Buffer) => writeFile(join(cache.path, blobFile(digest)), bytes);
  await put(right.digest, Buffer.concat([...right.source.read(0, right.size)]));
  await put(wrong.digest, Buffer.alloc(wrong.size, 'x'));
  await put(digestOf(lone), lone);
  await writeFile(join(cache.path, 'blobs/sha256/readme'), 'no blob');
  {
    await using site = await startTestSite({ ...options, config: { cache: { scrub: { every: '0' } } } });
    for (const { digest } of [right, wrong]) {
      expect(await site.get(`/v2/library/app/blobs/${digest}`)).toMatchObject({ status: 200, sha256: digest });
    }
    // The right file was not fetched again; where it came from is not known, so that its upstream shows parts of it.
    const shown = upstream.requestsFor(right.digest);
    expect(shown.map(({ headers }) => headers.range !== undefined)).toEqual([true, true, true, true]);
    expect(upstream.bytesSent(right.digest)).toBe(4 * 4096);
    expect(upstream.requestsFor(wrong.digest).map(({ method }) => method)).toContain('GET');
  }
  await using site = await startTestSite(options);
  expect((await finished(site)).found).toEqual({ stray: 1, unrecorded: 1, ok: 6 });
});

test('a file that was written to is read again before it is given out: right, it is served; wrong, it is fetched', async () => {
  await using upstream = await startRegistry();
  await using cache = await temporaryDirectory();
  const { layer, options } = await prepared(upstream, cache.path);
  const path = `/v2/library/app/blobs/${layer.digest}`;
  const file = join(cache.path, blobFile(layer.digest));
  upstream.forgetRequests();
  await using site = await startTestSite({ ...options, config: { cache: { scrub: { every: '0' } } } });
  await writeFile(file, await readFile(file));
  expect(await site.get(path)).toMatchObject({ status: 200, sha256: layer.digest });
  expect(upstream.requests).toEqual([]);
  const content = await readFile(file);
  content[100_000]! ^= 1;
  await writeFile(file, content);
  const both = await Promise.all([site.get(path), site.get(path)]);
  for (const reply of both) expect(reply).toMatchObject({ status: 200, complete: true, sha256: layer.digest });
  expect(upstream.requestsFor(layer.digest)).toHaveLength(1);
  expect(lines(site, 'stored blob was altered, put into quarantine')).toHaveLength(1);
});
