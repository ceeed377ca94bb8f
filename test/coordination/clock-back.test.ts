import { beforeEach, expect, test } from 'vitest';
import { Seal } from '../../src/coordination/seal.ts';
import { describeWith } from '../support/tools.ts';
import { digest, secret, sees, startCoordinator, suiteRedis } from './support.ts';

const signal = (): AbortSignal => AbortSignal.timeout(60_000);
const hourMs = 3_600_000;

describeWith(['redis-server'], 'a Redis whose clock has gone back by an hour', () => {
  const seal = new Seal(secret);
  const redis = suiteRedis();
  beforeEach(async () => void (await redis.client.flushall()));

  test('keeps no replica believing for that long what a tag was, or that something is missing', async () => {
    const atMs = Date.now() + hourMs;
    const tag = { kind: 'manifest', digest: digest(1), contentType: 'x', size: 7, ageMs: 0 } as const;
    const place = 'test:tag:{alike:docker.io/x:1:}';
    await redis.client.hset(place, { v: seal.close('tag alike docker.io/x:1 ', { ...tag, atMs }), at: atMs });
    const missing = { code: 'BLOB_UNKNOWN', message: 'none', atMs, untilMs: atMs + 60_000 };
    await redis.client.set('test:missing:{x}', seal.close('missing x', missing));
    await using a = startCoordinator(redis.port, 'a');
    await expect.poll(sees(a.coordinator, 0)).toBe(true);
    expect(await a.coordinator.missing('x')).toBeUndefined();
    const key = { repository: 'docker.io/x', tag: '1', variant: '', access: 'alike' };
    const options = { maxAgeMs: 60_000, signal: signal() };
    expect(await a.coordinator.claimTag(key, options)).toEqual({ kind: 'ours' });
    await a.coordinator.recordTag(key, { ...tag, digest: digest(2) }, { forMs: 60_000 });
    expect(await a.coordinator.claimTag(key, options)).toMatchObject({ kind: 'known', tag: { digest: digest(2) } });
  });

  test('shows no replica for that long that is gone, and keeps no connection for it', async () => {
    const atMs = Date.now() + hourMs;
    const entry = seal.close('replica', { id: 'gone', address: 'http://gone.test:5000', boot: 'once' });
    await redis.client.hset('test:{fleet}', { '#epoch': 'one', '#seq': 0, gone: entry });
    await redis.client.zadd('test:{fleet}:expiries', atMs, 'gone');
    await redis.client.zadd('test:budget:{one.example}', atMs, 'of one that is gone');
    await using a = startCoordinator(redis.port, 'a');
    await expect.poll(sees(a.coordinator, 1)).toBe(true);
    await using _place = await a.coordinator.enter('one.example', { max: 1, signal: signal() });
    const places = await redis.client.zrange('test:budget:{one.example}', '0', '-1');
    expect(places).toEqual([expect.not.stringContaining('gone')]);
    await expect.poll(sees(a.coordinator, 0)).toBe(true);
  });
});
