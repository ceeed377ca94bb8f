import { Redis } from 'ioredis';
import { expect, test } from 'vitest';
import { startRegistry } from '../support/registry.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { describeWith } from '../support/tools.ts';
import { metric, startFleet } from './support.ts';

describeWith(['redis-server'], 'what a replica holds', () => {
  test('is known when it is back at another address, and when Redis was emptied', async () => {
    await using upstream = await startRegistry();
    await using directory = await temporaryDirectory('holdings');
    await using fleet = await startFleet({ replicas: 0, upstreams: { 'docker.io': upstream } });
    const held = Array.from({ length: 40 }, (_, index) => upstream.addBlob({ size: 1_000, seed: `held ${index}` }));
    const fetched = () => held.map(({ digest }) => upstream.requestsFor(digest).filter(isGet).length);
    const isGet = ({ method }: { method: string }): boolean => method === 'GET';
    const once = held.map(() => 1);
    {
      const first = await fleet.add({ cacheDir: directory.path });
      for (const { digest } of held) await first.get(`/v2/library/app/blobs/${digest}`);
      await first.stop();
    }
    expect(fetched()).toEqual(once);
    await fleet.add({ cacheDir: directory.path });
    const second = await fleet.add();
    await expect.poll(() => metric(second, 'millpond_peer_replicas')).toBe(2);
    for (const { digest } of held.slice(0, 20)) await second.get(`/v2/library/app/blobs/${digest}`);
    expect(fetched()).toEqual(once);
    const redis = new Redis(fleet.redis.port, '127.0.0.1');
    await redis.flushall();
    // Both have seen that it is empty, and then one another.
    await expect.poll(() => redis.zcard('millpond:{fleet}:expiries')).toBe(2);
    await expect.poll(() => metric(second, 'millpond_peer_replicas')).toBe(2);
    await expect.poll(async () => (await redis.keys('*holders:*')).length).toBe(held.length);
    redis.disconnect();
    for (const { digest } of held) await second.get(`/v2/library/app/blobs/${digest}`);
    expect(fetched()).toEqual(once);
  });
});
