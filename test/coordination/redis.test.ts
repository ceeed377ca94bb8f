import { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { startRedisProxy } from '../support/redis-proxy.ts';
import { describeWith } from '../support/tools.ts';
import { digest, sees, startCoordinator } from './support.ts';

const signal = (): AbortSignal => AbortSignal.timeout(60_000);

describeWith(['redis-server'], 'several replicas', () => {
  let redis: RedisServer;
  beforeAll(async () => void (redis = await startRedis()));
  afterAll(async () => await redis[Symbol.asyncDispose]());

  async function startFleet(names: readonly string[]) {
    await using stack = new AsyncDisposableStack();
    const all = names.map((name) => stack.use(startCoordinator(redis.port, name)));
    for (const { coordinator } of all) await expect.poll(sees(coordinator, names.length - 1)).toBe(true);
    const owned = stack.move();
    return { all, [Symbol.asyncDispose]: () => owned.disposeAsync() };
  }

  test('see one another, and see who leaves', async () => {
    await using fleet = await startFleet(['a', 'b']);
    const [a, b] = fleet.all;
    expect(a!.coordinator.replicas).toEqual([
      { id: b!.coordinator.self, boot: b!.coordinator.boot, address: 'http://b.test:5000' },
    ]);
    await b!.coordinator[Symbol.asyncDispose]();
    await expect.poll(sees(a!.coordinator, 0)).toBe(true);
  });

  test('do not see one that lacks their secret', async () => {
    await using fleet = await startFleet(['a', 'b']);
    await using stranger = startCoordinator(redis.port, 'stranger', { secret: Buffer.from('another secret of 16') });
    await expect.poll(sees(stranger.coordinator, 0)).toBe(true);
    for (const { coordinator } of fleet.all) {
      await coordinator.announce({ kind: 'purge', repository: 'x', reference: '1' });
      expect(coordinator.replicas).toHaveLength(1);
    }
  });

  test('have one lease for a digest, and the others are told whom to read from', async () => {
    await using fleet = await startFleet(['a', 'b', 'c']);
    const [a, b, c] = fleet.all.map(({ coordinator }) => coordinator);
    const claims = await Promise.all([a!, b!, c!].map((one) => one.claim(digest(10))));
    expect(claims.map(({ kind }) => kind).sort()).toEqual(['filling', 'filling', 'lease']);
    const leader = [a!, b!, c!][claims.findIndex(({ kind }) => kind === 'lease')]!;
    for (const claim of claims) {
      if (claim.kind === 'filling') expect(claim.replicas.at(-1)?.id).toBe(leader.self);
    }
    await leader.hold(digest(10));
    for (const lease of leader.status().leases) await leader.release(lease);
    const other = [a!, b!, c!].find((one) => one !== leader)!;
    expect(await other.claim(digest(10))).toMatchObject({ kind: 'held', replicas: [{ id: leader.self }] });
    expect(await other.claim(digest(10), { avoid: [leader.self] })).toMatchObject({ kind: 'lease' });
  });

  test('are sent to each of those who hold a blob', async () => {
    const names = Array.from({ length: 8 }, (_, index) => `holder${index}`);
    await using fleet = await startFleet([...names, 'reader']);
    const replicas = fleet.all.map(({ coordinator }) => coordinator);
    const reader = replicas.pop()!;
    for (const replica of replicas) await replica.hold(digest(14));
    const named = new Set<string>();
    for (let turn = 0; turn < 200; turn += 1) {
      const claim = await reader.claim(digest(14));
      if (claim.kind === 'held') named.add(claim.replicas[0]!.id);
    }
    expect(named.size).toBe(names.length);
  });

  test('find the one that holds a blob among a thousand that are gone, soon', async () => {
    await using fleet = await startFleet(['holder', 'reader']);
    const [holder, reader] = fleet.all;
    const client = new Redis(redis.port, '127.0.0.1');
    const gone = Array.from({ length: 1_000 }, (_, index) => [Date.now() + 1_000_000, `gone${index}`]).flat();
    for (const number of [15, 16]) await client.zadd(`test:holders:{${digest(number)}}`, ...gone);
    client.disconnect();
    await holder!.coordinator.hold(digest(15));
    const claims = () => reader!.calls.filter((script) => script === 'claim').length;
    expect(await reader!.coordinator.claim(digest(15))).toMatchObject({
      kind: 'held',
      replicas: [{ id: holder!.coordinator.self }],
    });
    expect(claims()).toBeLessThanOrEqual(2);
    const before = claims();
    expect(await reader!.coordinator.claim(digest(16))).toMatchObject({ kind: 'lease' });
    expect(claims() - before).toBe(3);
    // Those to avoid take nobody else's place.
    const avoid = Array.from({ length: 1_000 }, (_, index) => `gone${index}`);
    expect(await reader!.coordinator.claim(digest(15), { avoid })).toMatchObject({ kind: 'held' });
    expect(claims() - before).toBe(4);
  });

  test('take a lease over from one that is gone, which then knows that it has lost it', async () => {
    await using fleet = await startFleet(['a', 'b']);
    const [a, b] = fleet.all.map(({ coordinator }) => coordinator);
    const first = await a!.claim(digest(11));
    if (first.kind !== 'lease') throw new Error('nobody else is there');
    const told = await b!.claim(digest(11));
    if (told.kind !== 'filling') throw new Error('a lease is given once');
    expect(told.fence).toBe(first.lease.fence);
    const taken = await b!.claim(digest(11), { takeOver: told.fence });
    if (taken.kind !== 'lease') throw new Error('a lease can be taken over');
    expect(taken.lease.fence).toBeGreaterThan(first.lease.fence);
    expect(await a!.renew(first.lease)).toBe('lost');
    await a!.release(first.lease);
    expect(await b!.renew(taken.lease)).toBe('held');
    // The fence has moved on: the same finding does not take it over again.
    expect(await a!.claim(digest(11), { takeOver: told.fence })).toMatchObject({ kind: 'filling' });
  });

  test('are told what one has no more, a thousand at once too, behind its back', async () => {
    await using fleet = await startFleet(['a', 'b']);
    const [a, b] = fleet.all.map(({ coordinator }) => coordinator);
    const digests = Array.from({ length: 1_000 }, (_, index) => digest(1_000 + index));
    const [back] = digests;
    await Promise.all(digests.map((one) => a!.hold(one)));
    for (const one of digests) a!.drop(one);
    // It is fetched again before the others were told.
    await a!.hold(back!);
    const last = digests.at(-1)!;
    await expect.poll(async () => (await b!.claim(last)).kind).toBe('lease');
    expect(await b!.claim(back!)).toMatchObject({ kind: 'held' });
    for (const one of digests.slice(1)) expect((await b!.claim(one)).kind).toBe('lease');
    expect(a!.status().state).toBe('connected');
  });

  test('replace one that says nothing for a while', async () => {
    await using fleet = await startFleet(['a', 'b']);
    const [a, b] = fleet.all.map(({ coordinator }) => coordinator);
    expect(await a!.claim(digest(12))).toMatchObject({ kind: 'lease' });
    await expect.poll(async () => (await b!.claim(digest(12))).kind, { interval: 100 }).toBe('lease');
  });

  test('read from one another as a tree', async () => {
    const names = Array.from({ length: 8 }, (_, index) => `tree${index}`);
    await using fleet = await startFleet(names);
    const replicas = fleet.all.map(({ coordinator }) => coordinator);
    const claims = [];
    for (const replica of replicas) claims.push(await replica.claim(digest(13)));
    const firsts = claims.map((claim) => (claim.kind === 'filling' ? claim.replicas[0]?.id : undefined));
    const numberOf = (id: string | undefined): number => replicas.findIndex(({ self }) => self === id);
    expect(firsts.map(numberOf)).toEqual([-1, 0, 0, 0, 0, 1, 1, 1]);
    expect(claims[5]).toMatchObject({ replicas: [{ id: replicas[1]!.self }, { id: replicas[0]!.self }] });
  });

  test('ask once what a tag is: the others wait and are told', async () => {
    await using fleet = await startFleet(['a', 'b']);
    const [a, b] = fleet.all.map(({ coordinator }) => coordinator);
    const key = { repository: 'docker.io/library/app', tag: 'one', variant: '' };
    const options = { maxAgeMs: 60_000, signal: signal() };
    expect(await a!.claimTag(key, options)).toEqual({ kind: 'ours' });
    const waiting = b!.claimTag(key, options);
    const tag = { kind: 'manifest', digest: digest(20), contentType: 'x', size: 7, ageMs: 0 } as const;
    await a!.recordTag(key, tag, { forMs: 60_000 });
    expect(await waiting).toMatchObject({ kind: 'known', tag: { ...tag, ageMs: expect.any(Number) as number } });
    // Too old for somebody.
    expect(await b!.claimTag(key, { ...options, maxAgeMs: 0 })).toEqual({ kind: 'ours' });
    const next = a!.claimTag(key, { ...options, maxAgeMs: 0 });
    await b!.leaveTag(key);
    expect(await next).toEqual({ kind: 'ours' });
    await a!.recordMissing('docker.io/x y', { code: 'BLOB_UNKNOWN', message: 'none' }, { forMs: 60_000 });
    expect(await b!.missing('docker.io/x y')).toEqual({ code: 'BLOB_UNKNOWN', message: 'none' });
  });

  test('share the connections to an upstream', async () => {
    await using fleet = await startFleet(['a', 'b']);
    const [a, b] = fleet.all.map(({ coordinator }) => coordinator);
    const first = await a!.enter('one.example', { max: 1, signal: signal() });
    let entered = false;
    const second = b!.enter('one.example', { max: 1, signal: signal() }).then((place) => {
      entered = true;
      return place;
    });
    expect(await a!.missing('somebody asks meanwhile')).toBeUndefined();
    expect(entered).toBe(false);
    await first[Symbol.asyncDispose]();
    await (await second)[Symbol.asyncDispose]();
  });

  test('hear one another at once, in order', async () => {
    await using fleet = await startFleet(['a', 'b']);
    const [a, b] = fleet.all;
    for (const reference of ['1', '2', '3']) {
      await a!.coordinator.announce({ kind: 'purge', repository: 'docker.io/x', reference });
    }
    await expect
      .poll(() => b!.heard.messages)
      .toMatchObject([{ reference: '1' }, { reference: '2' }, { reference: '3' }]);
    expect(a!.heard.messages).toEqual([]);
    expect(b!.heard.missed).toBe(0);
  });
});

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

  test('that is frozen costs one short wait', async () => {
    await using redis = await startRedis();
    await using a = startCoordinator(redis.port, 'a', { deadlineMs: 250 });
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
    await using a = startCoordinator(proxy.port, 'a', { deadlineMs: 250 });
    await expect.poll(sees(a.coordinator, 0)).toBe(true);
    proxy.delayMs = 80;
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
    const place = await a.coordinator.enter('one.example', { max: 1, signal: signal() });
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
    // Whoever tells it that there is news does so there too.
    await expect.poll(async () => (await client.pubsub('NUMSUB', 'test:wake'))[1]).toBe(0);
    client.disconnect();
    // It would keep the other one from ending for a while.
    await before.kill();
  });

  test('that refuses everything is lost, and tells nobody its password', async () => {
    await using redis = await startRedis({ args: ['--requirepass', 'the right one'] });
    await using wrong = startCoordinator(redis.port, 'a', { password: 'the wrong one' });
    await using right = startCoordinator(redis.port, 'b', { password: 'the right one' });
    await expect.poll(sees(right.coordinator, 0)).toBe(true);
    await expect.poll(() => wrong.coordinator.status().reason).not.toContain('not been reached yet');
    expect(wrong.coordinator.status().state).toBe('lost');
    expect(JSON.stringify([wrong.coordinator.status(), wrong.events])).not.toContain('wrong one');
  });
});
