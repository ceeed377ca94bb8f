import { describe, expect, test, vi } from 'vitest';
import { connectionReason, unavailable } from '../../src/upstream/failures.ts';
import type { GateEvent, Heard, RequestClass } from '../../src/upstream/passage.ts';
import { Walls, type WallsOptions } from '../../src/upstream/walls.ts';
import { never } from './support.ts';

const signal = never();
const timeout = unavailable('x', 'did not answer in time', { reason: 'timeout' });
const reset = unavailable('x', 'cannot be reached', { reason: connectionReason('ECONNRESET') });
const unusable = unavailable('x', 'answered with something else');

/** The walls of a place whose neutral request is answered by hand, by a clock that is moved. */
function wallsWith(options: Partial<WallsOptions> = {}) {
  const time = { now: 1_000_000 };
  const pings: PromiseWithResolvers<Heard | undefined>[] = [];
  const events: GateEvent[] = [];
  const answered: Heard['headers'][] = [];
  const walls = new Walls({
    upstream: 'x',
    service: 'registry',
    url: 'https://x/',
    probeMs: 5_000,
    now: () => time.now,
    report: (event) => void events.push(event),
    onAnswer: (headers) => void answered.push(headers),
    ping: () => {
      const ping = Promise.withResolvers<Heard | undefined>();
      pings.push(ping);
      return ping.promise;
    },
    turns: { connections: 32, shareOfRepository: 2 },
    ...options,
  });
  const enter = (repository: string, requests: RequestClass = 'manifest') =>
    walls.gate(requests, repository).enter(signal);
  const answer = async (repository: string, status: number, headers = {}, requests: RequestClass = 'manifest') => {
    using passage = await enter(repository, requests);
    passage.answered({ status, headers });
  };
  const fail = async (repository: string, error: unknown, event?: { readonly isConnected: boolean }) => {
    using passage = await enter(repository);
    passage.failed(error, event);
  };
  const isRefused = (repository: string, requests: RequestClass = 'manifest') =>
    enter(repository, requests).then(
      (passage) => {
        passage[Symbol.dispose]();
        return false;
      },
      () => true,
    );
  const settle = async (index: number, ping: Partial<Heard> | Error | undefined) => {
    if (ping instanceof Error) pings[index]!.reject(ping);
    else pings[index]!.resolve(ping && { status: 200, headers: {}, ...ping });
    for (let turn = 0; turn < 5; turn += 1) await Promise.resolve();
  };
  return { time, pings, events, answered, walls, enter, answer, fail, isRefused, settle };
}

describe('a part of a place', () => {
  test('is closed by what is sent to it, and listed', async () => {
    const { walls, answer, isRefused, time } = wallsWith();
    await answer('bad', 429, { 'retry-after': '60' });
    expect(walls.status()).toEqual({
      state: 'available',
      parts: [
        {
          requests: 'manifest',
          repository: 'bad',
          state: 'limited',
          untilMs: 1_060_000,
          reason: 'limits our requests',
        },
      ],
    });
    expect([await isRefused('bad'), await isRefused('bad', 'blob'), await isRefused('good')]).toEqual([
      true,
      false,
      false,
    ]);
    expect(() => walls.gate('manifest', 'bad').check()).toThrow();
    walls.gate('manifest', 'good').check();
    time.now += 60_000;
    expect(walls.status()).toEqual({ state: 'available' });
    await answer('bad', 200);
    expect(await isRefused('bad')).toBe(false);
  });

  test('is listed with up to 19 others', async () => {
    const { walls, answer } = wallsWith();
    for (let index = 0; index < 25; index += 1) await answer(`r${index}`, 429, { 'retry-after': '60' });
    expect(walls.status().parts).toHaveLength(20);
  });

  test('of a list is closed by a repository of any name', async () => {
    const { walls, answer } = wallsWith();
    await answer('a b', 429, {}, 'list');
    expect(walls.status().parts).toMatchObject([{ requests: 'list', repository: 'a b' }]);
  });

  test('decides what can be asked of a repository', async () => {
    const { walls, answer, fail, time } = wallsWith();
    expect(walls.isOpenFor('blob', 'a')).toBe(true);
    await answer('a', 429, { 'retry-after': '60' }, 'blob');
    expect([walls.isOpenFor('blob', 'a'), walls.isOpenFor('manifest', 'a'), walls.isOpenFor('blob', 'b')]).toEqual([
      false,
      true,
      true,
    ]);
    time.now += 60_000;
    await fail('b', timeout);
    expect([walls.isOpenFor('blob', 'b'), walls.isOpenFor('token', 'b'), walls.isOpenFor('blob', 'a')]).toEqual([
      false,
      false,
      true,
    ]);
    walls.pause({ forMs: 1_000 });
    expect(walls.isOpenFor('blob', 'c')).toBe(false);
    expect(walls.isOpen).toBe(false);
  });

  test('counts failures until an answer comes', async () => {
    const { answer, isRefused } = wallsWith();
    for (let count = 0; count < 4; count += 1) await answer('a', 500);
    await answer('a', 404);
    for (let count = 0; count < 4; count += 1) await answer('a', 500);
    expect(await isRefused('a')).toBe(false);
    await answer('a', 500);
    expect(await isRefused('a')).toBe(true);
  });

  test('is closed by a body that does not come, and has its turn until that has ended', async () => {
    const { enter, isRefused, walls } = wallsWith();
    const passages = await Promise.all([enter('bad'), enter('bad')]);
    const ends = passages.map((passage) => {
      using ended = passage;
      const end = ended.receiving!();
      ended.answered({ status: 200, headers: {} });
      return end;
    });
    const third = enter('bad');
    let isIn = false;
    third.then(() => (isIn = true)).catch(() => undefined);
    using _good = await enter('good');
    expect(isIn).toBe(false);
    ends[0]!();
    using _ = await third;
    expect(await isRefused('good')).toBe(false);
    ends[1]!(timeout);
    expect(await isRefused('bad')).toBe(true);
    expect(walls.status()).toMatchObject({ state: 'available', parts: [{ repository: 'bad', state: 'broken' }] });
  });

  test('that fails like another one closes nothing else where a third is answered meanwhile, whatever /v2/ says', async () => {
    const { answer, isRefused, pings, time } = wallsWith();
    for (let count = 0; count < 4; count += 1) for (const name of ['a', 'b']) await answer(name, 500);
    time.now += 1;
    await answer('good', 200);
    for (const name of ['a', 'b']) await answer(name, 500);
    expect([await isRefused('a'), await isRefused('b')]).toEqual([true, true]);
    expect([pings.length, await isRefused('good')]).toEqual([0, false]);
    // Also where that is seen only while the neutral request is under way.
    const late = wallsWith();
    await late.fail('a', timeout);
    await late.fail('b', timeout);
    late.time.now += 1;
    await late.answer('good', 200);
    await late.settle(0, { status: 503 });
    expect(await late.isRefused('good')).toBe(false);
  });

  test('is asked whether it is back by as many requests at a time as one repository may have', async () => {
    const { enter, fail, time } = wallsWith();
    for (const name of ['a', 'b', 'c']) await fail(name, timeout);
    time.now += 5_000;
    using probes = new DisposableStack();
    for (const name of ['a', 'b']) probes.use(await enter(name));
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      const refused = enter('c').catch((error: unknown) => error);
      await vi.advanceTimersByTimeAsync(1_000);
      expect(await refused).toMatchObject({ reason: 'left-alone' });
    } finally {
      vi.useRealTimers();
    }
    const third = enter('c');
    probes.dispose();
    using _ = await third;
  });

  test('is not to blame for what keeps the place from being connected to', async () => {
    const { fail, isRefused, walls } = wallsWith();
    for (let count = 0; count < 3; count += 1) await fail('a', reset, { isConnected: false });
    expect(walls.status()).toMatchObject({ state: 'broken' });
    expect(walls.status().parts).toBeUndefined();
    expect(await isRefused('b')).toBe(true);
  });

  test('is opened by an answer that cannot be used', async () => {
    const { fail, isRefused, time } = wallsWith();
    for (let count = 0; count < 3; count += 1) await fail('a', reset);
    expect(await isRefused('a')).toBe(true);
    time.now += 5_000;
    await fail('a', unusable);
    expect(await isRefused('a')).toBe(false);
  });

  test('of which a pause was announced by another replica is closed, and suspected of nothing', async () => {
    const { walls, pings, isRefused } = wallsWith();
    for (const repository of ['a', 'b', 'c']) {
      walls.pause({ forMs: 1_000, part: { requests: 'manifest', repository } });
    }
    expect([await isRefused('a'), await isRefused('d'), pings.length]).toEqual([true, false, 0]);
  });
});

describe('a turn', () => {
  test('is had by as many small requests of a repository as have a share, and by every blob', async () => {
    const { enter } = wallsWith();
    const held = [await enter('a'), await enter('a', 'list')];
    const third = enter('a');
    const state = { isIn: false };
    void third.then(() => (state.isIn = true));
    (await enter('a', 'blob'))[Symbol.dispose]();
    (await enter('b'))[Symbol.dispose]();
    expect(state.isIn).toBe(false);
    held[0]!.answered({ status: 200, headers: {} });
    await third;
    expect(state.isIn).toBe(true);
  });

  test.each(['failed', 'dispose'] as const)('is given back: %s', async (how) => {
    const { enter } = wallsWith({ turns: { connections: 32, shareOfRepository: 1 } });
    const held = await enter('a');
    if (how === 'failed') held.failed(reset);
    else held[Symbol.dispose]();
    await expect(enter('a')).resolves.toBeDefined();
  });

  test('is given back where the place is closed', async () => {
    const { enter, walls, time } = wallsWith({ turns: { connections: 32, shareOfRepository: 1 } });
    walls.pause({ forMs: 1_000 });
    await expect(enter('a')).rejects.toThrow();
    time.now += 1_000;
    await expect(enter('a')).resolves.toBeDefined();
  });
});

describe('several repositories that fail alike', () => {
  test('are looked into once; where the place answers, it stays open and is not asked again for a while', async () => {
    const { fail, pings, settle, walls, time } = wallsWith();
    await fail('a', timeout);
    expect(pings).toHaveLength(0);
    await fail('b', timeout);
    await fail('c', timeout);
    expect(pings).toHaveLength(1);
    await settle(0, { status: 401 });
    expect(walls.isOpen).toBe(true);
    await fail('d', timeout);
    time.now += 4_999;
    await fail('e', timeout);
    expect(pings).toHaveLength(1);
    time.now += 1;
    await fail('f', timeout);
    expect(pings).toHaveLength(2);
  });

  test.each<[string, Partial<Heard> | Error | undefined, string]>([
    ['answers nothing in time', timeout, 'broken'],
    ['cannot be reached', reset, 'broken'],
    ['answers 500', { status: 500 }, 'broken'],
    ['asks for a pause', { status: 429 }, 'limited'],
    ['asks for a pause with 503', { status: 503, headers: { 'retry-after': '9' } }, 'limited'],
    ['answers with something else', unusable, 'available'],
    ['fails for a reason of ours', new TypeError('x'), 'available'],
    ['has nothing neutral to be asked', undefined, 'available'],
    ['answers', {}, 'available'],
  ])('of a place that %s: %s', async (_, ping, state) => {
    const { fail, settle, walls, events } = wallsWith();
    for (const repository of ['a', 'b']) await fail(repository, timeout);
    await settle(0, ping);
    expect(walls.status().state).toBe(state);
    expect(events.filter(({ kind }) => kind === 'closed')).toHaveLength(state === 'available' ? 2 : 3);
  });

  test('in different ways, or in lists, are no reason to look', async () => {
    const { fail, answer, pings } = wallsWith();
    await fail('a', timeout);
    await answer('b', 429);
    for (const repository of ['c', 'd']) await answer(repository, 429, {}, 'list');
    await answer('b', 429, {}, 'blob');
    expect(pings).toHaveLength(0);
    await answer('e', 429);
    expect(pings).toHaveLength(1);
  });
});

describe('the first request to a place that was closed', () => {
  const closed = async () => {
    const site = wallsWith();
    site.walls.pause({ forMs: 1_000 });
    site.time.now += 1_000;
    return site;
  };

  test('opens it with an answer', async () => {
    const { answer, walls, answered } = await closed();
    await answer('a', 404, { x: 'y' });
    expect(walls.status()).toEqual({ state: 'available' });
    expect(answered).toEqual([{ x: 'y' }]);
  });

  test.each<[string, (site: Awaited<ReturnType<typeof closed>>) => Promise<void>]>([
    ['a failure of its repository', ({ answer }) => answer('a', 429, { 'retry-after': '60' })],
    ['silence', ({ fail }) => fail('a', timeout)],
  ])('with %s leaves the decision to a neutral request', async (_, first) => {
    const site = await closed();
    await first(site);
    const { pings, settle, walls, isRefused } = site;
    expect(pings).toHaveLength(1);
    await settle(0, { status: 200 });
    expect([walls.isOpen, await isRefused('a'), await isRefused('b')]).toEqual([true, true, false]);
  });

  test('keeps it closed where the neutral request fails too', async () => {
    const { fail, settle, isRefused } = await closed();
    await fail('a', timeout);
    await settle(0, timeout);
    expect(await isRefused('b')).toBe(true);
  });

  test('says nothing where there is nothing neutral to ask', async () => {
    const { fail, settle, isRefused } = await closed();
    await fail('a', timeout);
    await settle(0, undefined);
    expect(await isRefused('b')).toBe(false);
  });
});

test('a failure of a part says that the place answers', async () => {
  const { answer, answered, walls } = wallsWith();
  for (let count = 0; count < 20; count += 1) await answer('a', 500, { x: String(count) }).catch(() => undefined);
  expect(walls.isOpen).toBe(true);
  expect(answered[0]).toEqual({ x: '0' });
});
