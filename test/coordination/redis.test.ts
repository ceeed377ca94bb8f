import { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Change } from '../../src/coordination/coordinator.ts';
import { Seal } from '../../src/coordination/seal.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { describeWith } from '../support/tools.ts';
import { digest, secret, sees, startCoordinator } from './support.ts';

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
      { id: b!.coordinator.self, boot: b!.coordinator.boot, address: 'http://b.test:5000', isOffline: false },
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

  test('do what one with a new secret has done when they have that secret too, and say so until then', async () => {
    const client = new Redis(redis.port, '127.0.0.1');
    await client.flushall();
    client.disconnect();
    const done = (reference: string): Change => ({ kind: 'purge', repository: 'docker.io/x', reference });
    const renewed = { secret: Buffer.from('the next secret of the replicas') };
    let position: string | undefined;
    await using a = startCoordinator(redis.port, 'a', renewed);
    await expect.poll(sees(a.coordinator, 0)).toBe(true);
    await a.coordinator.announce(done('before'));
    {
      await using b = startCoordinator(redis.port, 'b');
      await expect.poll(() => b.events.toSorted()).toEqual(['found', 'unread: 1']);
      await a.coordinator.announce(done('1'));
      await expect.poll(() => b.events).toContain('unread: 2');
      await using c = startCoordinator(redis.port, 'c');
      await expect.poll(sees(c.coordinator, 1)).toBe(true);
      // It is done later than what b cannot read.
      await c.coordinator.announce(done('2'));
      await expect.poll(() => b.heard.messages).toEqual([done('2')]);
      ({ position } = b.coordinator);
    }
    await using b = startCoordinator(redis.port, 'b', { ...renewed, position });
    await expect.poll(() => b.heard.messages).toEqual([done('before'), done('1')]);
    expect(b.events).toEqual(['found']);
    expect(JSON.parse(b.coordinator.position!)).toMatchObject({ unread: [] });
  });

  test('that are copies of one another come to be known apart', async () => {
    await using a = startCoordinator(redis.port, 'a', { id: 'copied' });
    await using b = startCoordinator(redis.port, 'b', { id: 'copied' });
    await using c = startCoordinator(redis.port, 'c');
    const idOf = (address: string) => c.coordinator.replicas.find((one) => one.address === address)?.id;
    const areKnown = () =>
      a.coordinator.self !== b.coordinator.self &&
      idOf('http://a.test:5000') === a.coordinator.self &&
      idOf('http://b.test:5000') === b.coordinator.self;
    await expect.poll(areKnown).toBe(true);
    for (const { coordinator } of [a, b]) await expect.poll(sees(coordinator, 2)).toBe(true);
  });

  test('have one lease for a digest, and the others learn which replica to read from', async () => {
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
    // Replicas to avoid do not take the place of others.
    const avoid = Array.from({ length: 1_000 }, (_, index) => `gone${index}`);
    expect(await reader!.coordinator.claim(digest(15), { avoid })).toMatchObject({ kind: 'held' });
    expect(claims() - before).toBe(4);
  });

  test('take a lease over from one that is gone, which then knows that it has lost it', async () => {
    await using fleet = await startFleet(['a', 'b']);
    const [a, b] = fleet.all.map(({ coordinator }) => coordinator);
    const first = await a!.claim(digest(11));
    if (first.kind !== 'lease') throw new Error('no other replica is there');
    const told = await b!.claim(digest(11));
    if (told.kind !== 'filling') throw new Error('a lease is given once');
    expect(told.fence).toBe(first.lease.fence);
    const taken = await b!.claim(digest(11), { takeOver: told.fence });
    if (taken.kind !== 'lease') throw new Error('a lease can be taken over');
    expect(taken.lease.fence).toBeGreaterThan(first.lease.fence);
    expect(await a!.renew(first.lease)).toBe('lost');
    expect(a!.status().leases).toEqual([]);
    await a!.release(first.lease);
    expect(await b!.renew(taken.lease)).toBe('held');
    // The fence has moved on: the same finding does not take it over again.
    expect(await a!.claim(digest(11), { takeOver: told.fence })).toMatchObject({ kind: 'filling' });
  });

  test('learn in the background what one has no more, a thousand at once too', async () => {
    await using fleet = await startFleet(['a', 'b']);
    const [a, b] = fleet.all.map(({ coordinator }) => coordinator);
    const digests = Array.from({ length: 1_000 }, (_, index) => digest(1_000 + index));
    const [back] = digests;
    await Promise.all(digests.map((one) => a!.hold(one)));
    for (const one of digests) a!.drop(one);
    // It is fetched again before the others have learnt of it.
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
    for (const replica of replicas) {
      claims.push(await replica.claim(digest(13)));
      // A lease ends after three seconds.
      const [first] = claims;
      if (first?.kind === 'lease') expect(await replicas[0]!.renew(first.lease)).toBe('held');
    }
    const firsts = claims.map((claim) => (claim.kind === 'filling' ? claim.replicas[0]?.id : undefined));
    const numberOf = (id: string | undefined): number => replicas.findIndex(({ self }) => self === id);
    expect(firsts.map(numberOf)).toEqual([-1, 0, 0, 0, 0, 1, 1, 1]);
    expect(claims[5]).toMatchObject({ replicas: [{ id: replicas[1]!.self }, { id: replicas[0]!.self }] });
  });

  test('ask once what a tag is: the others wait and get the answer', async () => {
    await using fleet = await startFleet(['a', 'b']);
    const [a, b] = fleet.all.map(({ coordinator }) => coordinator);
    const key = { repository: 'docker.io/library/app', tag: 'one', variant: '', access: 'alike' };
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

  test('hear what is done after the clock of Redis went back, those that were away too, and in an empty Redis', async () => {
    const client = new Redis(redis.port, '127.0.0.1');
    await client.flushall();
    const place = 'test:{fleet}:changes';
    const aheadMs = Date.now() + 2 * 3_600_000;
    const done = (reference: string): Change => ({ kind: 'purge', repository: 'docker.io/x', reference });
    const sealed = new Seal(secret).close('change', { from: 'c', message: done('ahead'), atMs: aheadMs, id: 'one' });
    await client.zadd(place, aheadMs, sealed);
    await using a = startCoordinator(redis.port, 'a');
    await expect.poll(sees(a.coordinator, 0)).toBe(true);
    let position: string | undefined;
    const hears = async (work: (b: ReturnType<typeof startCoordinator>) => Promise<void>) => {
      await using b = startCoordinator(redis.port, 'b', { position });
      await expect.poll(sees(b.coordinator, 1)).toBe(true);
      await work(b);
      ({ position } = b.coordinator);
      return b.heard.messages;
    };
    expect(
      await hears(async (b) => {
        await a.coordinator.announce(done('1'));
        await expect.poll(() => b.heard.messages).toEqual([done('1')]);
      }),
    ).toEqual([done('1')]);
    await a.coordinator.announce(done('2'));
    expect(
      await hears(async (b) => {
        await expect.poll(() => b.heard.messages).toEqual([done('2')]);
        await client.flushall();
        await expect.poll(() => client.zcard(place)).toBe(3);
        await a.coordinator.announce(done('3'));
        await expect.poll(() => b.heard.messages).toHaveLength(2);
      }),
    ).toEqual([done('2'), done('3')]);
    client.disconnect();
  });
});
