import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { AddedImage } from '../support/contents.ts';
import { type ScriptedRegistry, startRegistry } from '../support/registry.ts';
import { startTestSite, type TestSite } from '../support/site.ts';
import { settled } from './support.ts';

const KB = 1000;
const layerBytes = 130 * KB;
const imageBytes = 3 * layerBytes;
/** Room for seven images, and not for eight. */
const maxSize = `${Math.floor(7.6 * imageBytes)}B`;
/** Nothing is fetched twice because the machine is busy. */
const timeouts = { headers: '10m', idle: '10m', answer: '10m' };

function addImage(registry: ScriptedRegistry, name: string, bytes = layerBytes): AddedImage {
  const layers = [0, 1, 2].map((index) => ({ size: bytes, seed: `${name} ${index}` }));
  return registry.addImage('library/app', name, { layers });
}

/** Pulls an image as a client does: its manifest, its config, its layers at a time. Every byte has to be right. */
async function pull(site: TestSite, image: AddedImage, tag: string): Promise<void> {
  const manifest = await site.get(`/v2/docker.io/library/app/manifests/${tag}`);
  expect(manifest).toMatchObject({ status: 200, sha256: image.digest, complete: true });
  const get = async ({ digest }: { readonly digest: string }): Promise<void> => {
    const reply = await site.get(`/v2/docker.io/library/app/blobs/${digest}`, { keepBody: false });
    expect(reply).toMatchObject({ status: 200, sha256: digest, complete: true });
  };
  await get(image.config);
  await Promise.all(image.layers.map(get));
}

/** The bytes under `blobs/`, by digest. */
async function stored(site: TestSite): Promise<Map<string, number>> {
  const folder = join(site.cacheDir, 'blobs/sha256');
  const names = await readdir(folder);
  const sizes = names.map(async (name) => [`sha256:${name}`, (await stat(join(folder, name))).size] as const);
  return new Map(await Promise.all(sizes));
}

function isWhole(image: AddedImage, blobs: ReadonlyMap<string, number>): boolean {
  return [image, image.config, ...image.layers].every(({ digest }) => blobs.has(digest));
}

/** What is stored when all is quiet: which images are whole, and the share of the bytes that belongs to none of them. */
async function quiet(site: TestSite, images: ReadonlyMap<string, AddedImage>) {
  await settled(site);
  const metric = async (name: string): Promise<number> =>
    Number(new RegExp(`^${name} (.*)$`, 'm').exec(String((await site.get('/metrics')).body))?.[1]);
  await expect
    .poll(async () => (await metric('millpond_cache_bytes')) <= (await metric('millpond_cache_budget_bytes')))
    .toBe(true);
  const blobs = await stored(site);
  const whole = [...images].filter(([, image]) => isWhole(image, blobs));
  const parts = whole.flatMap(([, image]) => [image, image.config, ...image.layers].map(({ digest }) => digest));
  const needed = new Set<string>(parts);
  let [all, lost] = [0, 0];
  for (const [digest, bytes] of blobs) {
    all += bytes;
    if (!needed.has(digest)) lost += bytes;
  }
  const unneeded = await metric('millpond_cache_unneeded_bytes');
  return { whole: whole.map(([name]) => name), lostShare: lost / all, unneededShare: unneeded / all };
}

async function fullCache(
  registry: ScriptedRegistry,
  { maxConnections = 32, maxFills = 64 } = {},
): Promise<{ site: TestSite; images: Map<string, AddedImage> }> {
  const upstreams = { 'docker.io': { urls: [registry.origin], maxConnections } };
  const site = await startTestSite({ upstreams, config: { cache: { maxSize, maxFills }, timeouts } });
  const images = new Map<string, AddedImage>();
  for (let index = 0; index < 7; index += 1) {
    const name = `old-${index}`;
    images.set(name, addImage(registry, name));
    await pull(site, images.get(name)!, name);
  }
  return { site, images };
}

describe('first pulls into a full cache of seven images', () => {
  test.each([1, 4, 10, 40])('%i at a time: each gets its bytes, and whole images are left', async (count) => {
    await using registry = await startRegistry();
    const { site, images } = await fullCache(registry);
    await using _site = site;
    expect((await quiet(site, images)).whole).toHaveLength(7);
    const fresh = Array.from({ length: count }, (_, index) => `new-${index}`);
    for (const name of fresh) images.set(name, addImage(registry, name));
    const ended: string[] = [];
    const pulls = fresh.map(async (name) => {
      await pull(site, images.get(name)!, name);
      ended.push(name);
    });
    await Promise.all(pulls);
    const { whole, lostShare, unneededShare } = await quiet(site, images);
    expect(lostShare).toBeLessThan(0.05);
    expect(unneededShare).toBeLessThan(0.05);
    expect(whole.length).toBeGreaterThanOrEqual(6);
    if (count <= 4) expect(whole).toEqual(expect.arrayContaining(fresh));
    // What is pulled after them is there whole, too.
    const last = addImage(registry, 'last');
    images.set('last', last);
    await pull(site, last, 'last');
    expect((await quiet(site, images)).whole).toContain('last');
  });

  test('of 40 that are on their way at once, the seven that end last are whole, and no layer is fetched twice', async () => {
    await using registry = await startRegistry();
    const { site, images } = await fullCache(registry, { maxConnections: 200, maxFills: 200 });
    await using _site = site;
    const fresh = Array.from({ length: 40 }, (_, index) => `new-${index}`);
    const pulls = fresh.map((name) => {
      const image = addImage(registry, name);
      images.set(name, image);
      const stalls = image.layers.map(({ digest }) => registry.fault(digest, { kind: 'stall', afterBytes: KB }));
      return { name, stalls, ended: pull(site, image, name) };
    });
    await Promise.all(pulls.flatMap(({ stalls }) => stalls.map((stall) => stall.reached)));
    // In an order of its own: not as they began.
    const order = pulls.map((_, index) => pulls[(index * 17 + 11) % pulls.length]!);
    for (const { stalls, ended } of order) {
      for (const stall of stalls) stall.release();
      await ended;
    }
    const { whole, lostShare } = await quiet(site, images);
    expect(whole.toSorted()).toEqual(
      order
        .slice(-7)
        .map(({ name }) => name)
        .toSorted(),
    );
    expect(lostShare).toBeLessThan(0.05);
    for (const { name } of pulls) {
      for (const { digest } of images.get(name)!.layers) {
        expect(registry.requestsFor(digest)).toHaveLength(1);
      }
    }
  });

  test('a slow one among quick ones keeps its manifest and its room until it is whole', async () => {
    await using registry = await startRegistry();
    const { site, images } = await fullCache(registry);
    await using _site = site;
    const slow = addImage(registry, 'slow', 2 * layerBytes);
    images.set('slow', slow);
    const stalls = slow.layers.map(({ digest }) => registry.fault(digest, { kind: 'stall', afterBytes: layerBytes }));
    const pulling = pull(site, slow, 'slow');
    await Promise.all(stalls.map((stall) => stall.reached));
    for (let index = 0; index < 12; index += 1) {
      const name = `quick-${index}`;
      images.set(name, addImage(registry, name));
      await pull(site, images.get(name)!, name);
    }
    for (const stall of stalls) stall.release();
    await pulling;
    const { whole, lostShare } = await quiet(site, images);
    expect(whole).toContain('slow');
    expect(whole).toContain('quick-11');
    expect(lostShare).toBeLessThan(0.05);
  });

  test('one that cannot fit passes through, and nothing is evicted for it', async () => {
    await using registry = await startRegistry();
    const { site, images } = await fullCache(registry);
    await using _site = site;
    const large = addImage(registry, 'large', 3 * imageBytes);
    await pull(site, large, 'large');
    const { whole, lostShare } = await quiet(site, images);
    expect(whole).toEqual([...images.keys()]);
    expect(lostShare).toBeLessThan(0.05);
    // It is asked for again as if it had never been here.
    await pull(site, large, 'large');
    expect((await quiet(site, images)).whole).toEqual([...images.keys()]);
  });
});
