import { Redis } from 'ioredis';
import { expect, test } from 'vitest';
import { startRedis } from '../support/redis.ts';
import { startRedisProxy } from '../support/redis-proxy.ts';
import { describeWith } from '../support/tools.ts';
import { digest, sees, startCoordinator } from './support.ts';

describeWith(['redis-server'], 'a Redis that fails', () => {
  test('is noticed once, costs nothing afterwards, and is found again; one that is empty says so', async () => {
    await using redis = await startRedis();
    await using a = startCoordinator(redis.port, 'a');
    await using b = startCoordinator(redis.port, 'b');
    await expect.poll(sees(a.coordinator, 1)).toBe(true);
    await a.coordinator.announce({ kind: 'pin', repository: 'docker.io/x', reference: '1' });
    await expect.poll(() => b.heard.messages).toHaveLength(1);
    await redis.kill();
    await expect.poll(() => a.coordinator.status().state).toBe('lost');
    for (let turn = 0; turn < 50; turn += 1) {
      expect(await a.coordinator.claim(digest(30 + turn))).toEqual({ kind: 'alone' });
    }
    await redis.restart();
    await expect.poll(sees(a.coordinator, 1)).toBe(true);
    await expect.poll(() => a.heard.missed + b.heard.missed).toBe(2);
    expect(a.events).toEqual(['found', expect.stringMatching(/^lost: /), 'found']);
  });

  test('learns from a later run what operators did while it was lost', async () => {
    await using redis = await startRedis();
    await using b = startCoordinator(redis.port, 'b');
    await expect.poll(sees(b.coordinator, 0)).toBe(true);
    await redis.kill();
    const done = { kind: 'purge', repository: 'docker.io/x', reference: '1' } as const;
    let untold: string | undefined;
    {
      // It has never been in touch with any.
      await using a = startCoordinator(redis.port, 'a');
      const announcing = a.coordinator.announce(done);
      // It may be killed now.
      [untold] = a.kept;
      await announcing;
      expect(a.coordinator.position).toBeUndefined();
    }
    await redis.restart();
    await using a = startCoordinator(redis.port, 'a', { untold });
    await expect.poll(() => b.heard.messages).toEqual([done]);
    await expect.poll(() => a.kept).toEqual(['[]']);
  });

  test('learns from a later run what this one was about to announce when it was killed, and has it done once', async () => {
    await using redis = await startRedis();
    await using b = startCoordinator(redis.port, 'b');
    await expect.poll(sees(b.coordinator, 0)).toBe(true);
    const done = { kind: 'purge', repository: 'docker.io/x', reference: '1' } as const;
    let untold: string | undefined;
    {
      await using a = startCoordinator(redis.port, 'a');
      await expect.poll(sees(a.coordinator, 1)).toBe(true);
      await a.coordinator.announce(done);
      [untold] = a.kept;
      await expect.poll(() => b.heard.messages).toEqual([done]);
    }
    await using a = startCoordinator(redis.port, 'a', { untold });
    await expect.poll(() => a.kept).toEqual(['[]']);
    await a.coordinator.announce({ ...done, reference: '2' });
    await expect.poll(() => b.heard.messages).toEqual([done, { ...done, reference: '2' }]);
  });

  test.each([
    { first: 'a', agreed: 'unpin' },
    { first: 'b', agreed: 'pin' },
  ])('leaves replicas of one mind on what they pin where $first can tell first', async ({ first, agreed }) => {
    await using redis = await startRedis();
    const client = new Redis(redis.port, '127.0.0.1');
    const allow = async (username: string, ...rules: string[]) =>
      void (await client.call('ACL', 'SETUSER', username, 'on', '>secret', '~*', '&*', '+@all', ...rules));
    for (const name of ['a', 'b']) await allow(name);
    await using a = startCoordinator(redis.port, 'a', { username: 'a', password: 'secret' });
    await using b = startCoordinator(redis.port, 'b', { username: 'b', password: 'secret' });
    for (const { coordinator } of [a, b]) await expect.poll(sees(coordinator, 1)).toBe(true);
    for (const name of ['a', 'b']) await allow(name, '-@scripting');
    for (const { coordinator } of [a, b]) await expect.poll(() => coordinator.status().state).toBe('lost');
    /** What was done to the image on each, in order. */
    const done: Record<'a' | 'b', string[]> = { a: [], b: [] };
    const act = async (name: 'a' | 'b', kind: 'pin' | 'unpin') => {
      done[name].push(kind);
      await (name === 'a' ? a : b).coordinator.announce({ kind, repository: 'docker.io/x', reference: '1' });
    };
    const listen = (one: typeof a, list: string[]) =>
      one.coordinator.subscribe({ received: ({ kind }) => void list.push(kind), missed: () => undefined });
    using _a = listen(a, done.a);
    using _b = listen(b, done.b);
    await act('a', 'pin');
    await act('b', 'pin');
    await act('b', 'unpin');
    const place = 'test:{fleet}:changes';
    for (const name of first === 'a' ? ['a', 'b'] : ['b', 'a']) {
      const before = await client.zcard(place);
      await allow(name);
      await expect.poll(() => client.zcard(place)).toBe(before + (name === 'a' ? 1 : 2));
    }
    const changedAt = Number((await client.zrange(place, '-1', '-1', 'WITHSCORES'))[1]);
    for (const { coordinator } of [a, b]) {
      await expect.poll(() => JSON.parse(coordinator.position!) as unknown).toMatchObject({ changedAt });
    }
    expect([done.a.at(-1), done.b.at(-1)]).toEqual([agreed, agreed]);
    client.disconnect();
  });

  test.each(['', 'null', '{"epoch":7}', '[1', '[{"change":"x"}]'])(
    'is asked by one whose note of it is %j',
    async (text) => {
      await using redis = await startRedis();
      await using a = startCoordinator(redis.port, 'a', { position: text, untold: text });
      await expect.poll(sees(a.coordinator, 0)).toBe(true);
    },
  );

  test('that is frozen costs one short wait', async () => {
    await using redis = await startRedis();
    await using a = startCoordinator(redis.port, 'a', { deadlineMs: 3_000 });
    await expect.poll(sees(a.coordinator, 0)).toBe(true);
    redis.process.kill('SIGSTOP');
    expect(await a.coordinator.claim(digest(90))).toEqual({ kind: 'alone' });
    expect(a.coordinator.status()).toMatchObject({ state: 'lost', reason: 'does not answer' });
    redis.process.kill('SIGCONT');
    await expect.poll(sees(a.coordinator, 0)).toBe(true);
  });

  test('that is slow costs a few slow answers, and is found again when it is not', async () => {
    await using redis = await startRedis();
    await using proxy = await startRedisProxy(redis.port);
    // An answer after a second is slow: a busy machine may be late by three more.
    await using a = startCoordinator(proxy.port, 'a', { deadlineMs: 5_000 });
    await expect.poll(sees(a.coordinator, 0)).toBe(true);
    proxy.delayMs = 1_500;
    await expect
      .poll(async () => {
        await a.coordinator.claim(digest(91));
        return a.coordinator.status();
      })
      .toMatchObject({ state: 'lost', reason: 'answers too slowly' });
    expect(await a.coordinator.claim(digest(92))).toEqual({ kind: 'alone' });
    proxy.delayMs = 0;
    await expect.poll(sees(a.coordinator, 0)).toBe(true);
    expect(a.events).toEqual(['found', expect.stringMatching(/^lost: /), 'found']);
  });

  test('is not waited for to give a place back', async () => {
    await using redis = await startRedis();
    await using a = startCoordinator(redis.port, 'a');
    await expect.poll(sees(a.coordinator, 0)).toBe(true);
    const place = await a.coordinator.enter('one.example', { max: 1, signal: AbortSignal.timeout(60_000) });
    redis.process.kill('SIGSTOP');
    await place[Symbol.asyncDispose]();
    expect(a.events).toEqual(['found']);
  });

  test('that answers and takes no write is lost until it does, not found again and again', async () => {
    await using redis = await startRedis({ args: ['--maxmemory', '1'] });
    await using a = startCoordinator(redis.port, 'a');
    const client = new Redis(redis.port, '127.0.0.1');
    const refusals = async () => (await client.info('errorstats')).match(/errorstat_OOM:count=(\d+)/)?.[1];
    await expect.poll(async () => Number(await refusals())).toBeGreaterThan(2);
    expect(a.events).not.toContain('found');
    expect(a.coordinator.status().state).toBe('lost');
    await client.config('SET', 'maxmemory', '0');
    await expect.poll(sees(a.coordinator, 0)).toBe(true);
    client.disconnect();
  });

  test('that refuses one question answers all others', async () => {
    await using redis = await startRedis();
    await using a = startCoordinator(redis.port, 'a');
    await expect.poll(sees(a.coordinator, 0)).toBe(true);
    const client = new Redis(redis.port, '127.0.0.1');
    await client.set(`test:fill:{${digest(40)}}`, 'not what a lease looks like');
    client.disconnect();
    for (let turn = 0; turn < 20; turn += 1) {
      expect(await a.coordinator.claim(digest(40))).toEqual({ kind: 'alone' });
      expect(await a.coordinator.claim(digest(41 + turn))).toMatchObject({ kind: 'lease' });
    }
    expect(a.events).toEqual(['found']);
  });

  test('that was demoted and keeps its connections is left for the one that its address leads to now', async () => {
    await using before = await startRedis();
    await using after = await startRedis();
    await using proxy = await startRedisProxy(before.port);
    await using a = startCoordinator(proxy.port, 'a');
    await using b = startCoordinator(after.port, 'b');
    for (const { coordinator } of [a, b]) await expect.poll(sees(coordinator, 0)).toBe(true);
    proxy.target = after.port;
    const client = new Redis(before.port, '127.0.0.1');
    await client.replicaof('127.0.0.1', after.port);
    await expect.poll(sees(a.coordinator, 1)).toBe(true);
    expect(a.events).toEqual(['found', 'lost: refuses (READONLY)', 'found']);
    // News is announced there too.
    await expect.poll(async () => (await client.pubsub('NUMSUB', 'test:wake'))[1]).toBe(0);
    client.disconnect();
    // It would keep the other one from ending for a while.
    await before.kill();
  });

  test('that refuses everything is lost, and does not reveal its password', async () => {
    await using redis = await startRedis({ args: ['--requirepass', 'the right one'] });
    await using wrong = startCoordinator(redis.port, 'a', { password: 'the wrong one' });
    await using right = startCoordinator(redis.port, 'b', { password: 'the right one' });
    await expect.poll(sees(right.coordinator, 0)).toBe(true);
    await expect.poll(() => wrong.coordinator.status().reason).not.toContain('not been reached yet');
    expect(wrong.coordinator.status().state).toBe('lost');
    expect(JSON.stringify([wrong.coordinator.status(), wrong.events])).not.toContain('wrong one');
  });
});
