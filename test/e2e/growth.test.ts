import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { get } from '../support/client.ts';
import { type LargeCache, makeLargeCache } from '../support/large-cache.ts';
import { type MillpondProcess, startMillpond } from '../support/millpond.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

const hot = { hotImages: 3, hotSizes: [2_000, 70_000] };

/**
 * Bytes that a process has read since it was started. Calls are not counted: each wake-up of an event loop is one, and how
 * many of those there are depends on how busy the machine is.
 */
async function bytesReadBy(pid: number): Promise<number> {
  return Number(/^rchar: (\d+)$/m.exec(await readFile(`/proc/${pid}/io`, 'utf8'))?.[1]);
}

/** Bytes that it reads to start and to answer for a few images, and for any blob, with so many others beside them. */
async function readsWith(blobs: number): Promise<{ start: number; perHit: number; cache: LargeCache }> {
  await using directory = await temporaryDirectory('growth');
  const cache = await makeLargeCache({ directory: join(directory.path, 'data'), blobs, ...hot });
  const upstreams = { 'docker.io': { urls: ['http://127.0.0.1:9'] } };
  const config = { cache: { tagTtl: '365d', maxSize: '1TiB' }, upstreams };
  // The code is compiled each time: how much of it other starts have left to be read is chance.
  const env = { NODE_DISABLE_COMPILE_CACHE: '1' };
  // The index of the search reads everything, a while after each start: not where its file is a folder that it cannot remove.
  await mkdir(join(directory.path, 'data', 'search.sqlite', 'kept'), { recursive: true });
  await using millpond = await startMillpond(config, { directory: directory.path, env });
  return { ...(await readsOf(millpond, cache)), cache };
}

async function readsOf(millpond: MillpondProcess, cache: LargeCache): Promise<{ start: number; perHit: number }> {
  for (const path of cache.hot) expect((await get(`${millpond.origin}${path}`)).status).toBe(200);
  const start = await bytesReadBy(millpond.process.pid);
  const hits = Math.min(50, cache.coldBlobs);
  for (let hit = 0; hit < hits; hit += 1) {
    const path = cache.cold((hit * 7919) % cache.coldBlobs);
    expect((await get(`${millpond.origin}${path}`)).status).toBe(200);
  }
  return { start, perHit: ((await bytesReadBy(millpond.process.pid)) - start) / hits };
}

// Counted, not timed: `node bench/growth.ts` has the times, up to a million blobs.
test('a start reads no more, and a hit hardly more, with 20,000 blobs than with 200', async () => {
  const few = await readsWith(200);
  const many = await readsWith(20_000);
  expect(many.cache.coldBlobs).toBe(18_000);
  // A walk through one table of the catalog would be megabytes.
  expect(many.start - few.start).toBeLessThan(500_000);
  // The trees of the catalog are a little deeper, and not in memory.
  expect(many.perHit).toBeLessThan(100_000);
});
