import { expect, test } from 'vitest';
import { bestByteHitRatio, byteHitRatio, lru } from '../../bench/eviction-policies.ts';
import { makeTrace } from '../../bench/eviction-trace.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite } from '../support/site.ts';
import { readWhileEvicting } from './eviction/readers.ts';
import { replay } from './eviction/replay.ts';

const MB = 1_000_000;

// `node bench/eviction-replay.ts` does the same with 2,000 images, 50,000 pulls and 40 GB.
test('a replayed trace stays within the budget, gives every image whole, and hits more bytes than LRU would', async () => {
  const trace = makeTrace({ kind: 'steady', seed: 6, images: 100, pulls: 250, bytes: 20 * MB, skew: 1 });
  const budgetBytes = 4 * MB;
  await using registry = await startRegistry();
  let nowMs = 0;
  const config = { cache: { maxSize: `${budgetBytes}B`, tagTtl: '1h' }, log: { level: 'error' } };
  await using started = await startTestSite({ upstreams: { 'docker.io': registry }, config, now: () => nowMs });
  const { origin, cacheDir } = started;
  const site = { origin, cacheDir, setNow: (ms: number) => void (nowMs = ms) };
  const report = await replay({ trace, registry, site, budgetBytes, clients: 2 });
  expect(report.violations).toEqual([]);
  expect(report).toMatchObject({ pulls: 250, samples: 250 });
  expect(report.evictedBlobs).toBeGreaterThan(100);
  expect(report.mostCountedBytes).toBeGreaterThan(0.7 * budgetBytes);
  expect(report.byteHitRatio).toBeGreaterThan(byteHitRatio(trace, { policy: lru, budget: budgetBytes }));
  expect(report.byteHitRatio).toBeLessThan(bestByteHitRatio(trace, budgetBytes));
});

// `node bench/eviction-reads.ts` evicts 1,000 times.
test('while clients read all the time, eviction again and again fails no read and gives no wrong byte', async () => {
  const report = await readWhileEvicting({ evictions: 60, clients: 6, seed: 5 });
  expect(report.violations).toEqual([]);
  expect(report.evictions).toBe(60);
  expect(report.evictedBlobs).toBeGreaterThan(120);
  expect(report.rightBodies).toBeGreaterThan(60);
});
