import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { get } from '../support/client.ts';
import { type LargeCache, makeLargeCache } from '../support/large-cache.ts';
import { startMillpond } from '../support/millpond.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

const hot = { hotImages: 3, hotSizes: [2_000, 70_000] };

interface Reads {
  /** Calls of `read`, of files and connections. */
  readonly calls: number;
  readonly bytes: number;
}

/** What a process has read since it was started. */
async function readsOf(pid: number): Promise<Reads> {
  const text = await readFile(`/proc/${pid}/io`, 'utf8');
  const value = (name: string) => Number(new RegExp(`^${name}: (\\d+)$`, 'm').exec(text)?.[1]);
  return { calls: value('syscr'), bytes: value('rchar') };
}

/** What it reads to start and to answer for a few images, with so many other blobs beside them. */
async function readsWith(blobs: number): Promise<{ reads: Reads; cache: LargeCache; perHit: number }> {
  await using directory = await temporaryDirectory('growth');
  const cache = await makeLargeCache({ directory: join(directory.path, 'data'), blobs, ...hot });
  const upstreams = { 'docker.io': { urls: ['http://127.0.0.1:9'] } };
  const config = { cache: { tagTtl: '365d', maxSize: '1TiB' }, upstreams };
  // The first start compiles.
  await (await startMillpond(config, { directory: directory.path }))[Symbol.asyncDispose]();
  await using millpond = await startMillpond(config, { directory: directory.path });
  for (const path of cache.hot) expect((await get(`${millpond.origin}${path}`)).status).toBe(200);
  const reads = await readsOf(millpond.process.pid);
  const hits = Math.min(50, cache.coldBlobs);
  for (let hit = 0; hit < hits; hit += 1) {
    const path = cache.cold((hit * 7919) % cache.coldBlobs);
    expect((await get(`${millpond.origin}${path}`)).status).toBe(200);
  }
  const after = await readsOf(millpond.process.pid);
  return { reads, cache, perHit: (after.calls - reads.calls) / hits };
}

// Counted, not timed: `node bench/growth.ts` has the times, up to a million blobs.
test('a start reads no more, and a hit hardly more, with 20,000 blobs than with 200', async () => {
  const few = await readsWith(200);
  const many = await readsWith(20_000);
  expect(many.cache.coldBlobs).toBe(18_000);
  // One look at each blob, or a walk through one table, would be some thousands of calls and megabytes.
  expect(many.reads.calls - few.reads.calls).toBeLessThan(400);
  expect(many.reads.bytes - few.reads.bytes).toBeLessThan(2_000_000);
  // The trees of the catalog are a little deeper, and not in memory.
  expect(many.perHit).toBeLessThan(40);
}, 120_000);
