import { expect, test } from 'vitest';
import type { Change, Message } from '../../src/coordination/coordinator.ts';
import { Seal } from '../../src/coordination/seal.ts';
import { describeWith } from '../support/tools.ts';
import { digest, secret, sees, startCoordinator, suiteRedis } from './support.ts';

const signal = (): AbortSignal => AbortSignal.timeout(60_000);
const hourMs = 3_600_000;

describeWith(['redis-server'], 'who can write to Redis and not sign what replicas say', () => {
  const seal = new Seal(secret);
  const redis = suiteRedis();

  test('makes no tag what it was before', async () => {
    await using a = startCoordinator(redis.port, 'a');
    await expect.poll(sees(a.coordinator, 0)).toBe(true);
    const key = { repository: 'docker.io/library/app', tag: 'one', variant: '', access: 'alike' };
    const record = (number: number, ageMs: number) =>
      a.coordinator.recordTag(
        key,
        { kind: 'manifest', digest: digest(number), contentType: 'x', size: 7, ageMs },
        { forMs: hourMs },
      );
    const place = 'test:tag:{alike:docker.io/library/app:one:}';
    await record(1, 120_000);
    const before = await redis.client.hget(place, 'v');
    await record(2, 0);
    // One that comes late takes nothing back.
    await record(1, 120_000);
    const options = { maxAgeMs: 60_000, signal: signal() };
    expect(await a.coordinator.claimTag(key, options)).toMatchObject({ kind: 'known', tag: { digest: digest(2) } });
    await redis.client.hset(place, { v: before!, at: Date.now() });
    expect(await a.coordinator.claimTag(key, options)).toEqual({ kind: 'alone' });
  });

  test('makes no 404 last', async () => {
    await using a = startCoordinator(redis.port, 'a');
    await expect.poll(sees(a.coordinator, 0)).toBe(true);
    const say = (untilMs: number) =>
      redis.client.set('test:missing:{x}', seal.close('missing x', { code: 'BLOB_UNKNOWN', message: 'none', untilMs }));
    await say(Date.now() + hourMs);
    expect(await a.coordinator.missing('x')).toEqual({ code: 'BLOB_UNKNOWN', message: 'none' });
    await say(Date.now() - 1_000);
    expect(await a.coordinator.missing('x')).toBeUndefined();
  });

  test('makes no pause longer than it was', async () => {
    await using a = startCoordinator(redis.port, 'a');
    await expect.poll(sees(a.coordinator, 0)).toBe(true);
    const ages: number[] = [];
    using _subscription = a.coordinator.subscribe({
      received: (_, { ageMs }) => ages.push(ageMs),
      missed: () => undefined,
    });
    const limit: Message = { kind: 'limit', upstream: 'docker.io', url: 'u', service: 'registry', forMs: hourMs };
    const sealed = seal.close('message', { from: 'b', message: limit, atMs: Date.now() - 2 * hourMs });
    const seq = await redis.client.hincrby('test:{fleet}', '#seq', 1);
    await redis.client.xadd('test:{fleet}:messages', `${seq}-0`, 'm', sealed);
    await expect.poll(() => ages).toHaveLength(1);
    expect(ages[0]).toBeGreaterThan(hourMs);
  });

  test('has nothing removed or pinned once more', async () => {
    await using a = startCoordinator(redis.port, 'a');
    await using b = startCoordinator(redis.port, 'b');
    for (const { coordinator } of [a, b]) await expect.poll(sees(coordinator, 1)).toBe(true);
    const change = (reference: string): Change => ({ kind: 'unpin', repository: 'docker.io/x', reference });
    await a.coordinator.announce(change('told'));
    await expect.poll(() => b.heard.messages).toEqual([change('told')]);
    const place = 'test:{fleet}:changes';
    const [told] = await redis.client.zrange(place, '0', '-1');
    const long = seal.close('change', { from: 'a', message: change('long ago'), atMs: Date.now() - 2 * hourMs });
    const now = String(Date.now() + 1_000);
    await redis.client.zadd(place, now, told!, now, long);
    await a.coordinator.announce(change('last'));
    await expect.poll(() => b.heard.messages).toEqual([change('told'), change('last')]);
  });

  test('hides no later news from other replicas, whatever time it writes', async () => {
    await redis.client.flushall();
    const place = 'test:{fleet}:changes';
    const aheadMs = 8e15;
    const change = (reference: string): Change => ({ kind: 'purge', repository: 'docker.io/x', reference });
    const old = seal.close('change', { from: 'b', message: change('old'), atMs: Date.now() });
    await redis.client.zadd(place, aheadMs, 'unsigned', aheadMs, old);
    await using a = startCoordinator(redis.port, 'a');
    await using b = startCoordinator(redis.port, 'b');
    for (const { coordinator } of [a, b]) await expect.poll(sees(coordinator, 1)).toBe(true);
    await a.coordinator.announce(change('1'));
    await expect.poll(() => b.heard.messages).toEqual([change('1')]);
    await redis.client.flushall();
    // What they write again is what they have said themselves.
    await expect.poll(() => redis.client.zcard(place)).toBe(1);
    await a.coordinator.announce(change('2'));
    await expect.poll(() => b.heard.messages).toEqual([change('1'), change('2')]);
    expect(await redis.client.zcount(place, aheadMs, '+inf')).toBe(0);
    for (const { coordinator } of [a, b]) {
      const { changedAt } = JSON.parse(coordinator.position!) as { changedAt: number };
      expect(changedAt).toBeLessThan(aheadMs);
    }
  });
});
