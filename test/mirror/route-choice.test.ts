import { describe, expect, test, vi } from 'vitest';
import type { Claim, ClaimOptions, Lease, Replica } from '../../src/coordination/coordinator.ts';
import { PeerFailure, type PeerFault } from '../../src/coordination/peer-failure.ts';
import { SoloCoordinator } from '../../src/coordination/solo.ts';
import { DirectRoute, type Source, SourceList } from '../../src/mirror/fill/sources.ts';
import { SharedRoute, type SharedRouteOptions } from '../../src/mirror/sharing/shared-route.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { RegistryError } from '../../src/oci/error.ts';
import { quietPeers } from './quiet-peers.ts';

const digest = digestOf(Buffer.from('a layer'));
const signal = new AbortController().signal;

function replica(id: string): Replica {
  return { id, address: `http://${id}:5000`, boot: '1', isOffline: false };
}

const upstream: Source = {
  id: 'upstream',
  upstream: 'docker.io',
  repository: 'docker.io/library/app',
  maxConnections: 7,
  connections: 1,
  open: () => Promise.reject(new Error('nothing is read here')),
};

/** Notes what it is asked, and answers claims by hand. */
class Noted extends SoloCoordinator {
  readonly done: string[] = [];
  readonly claims: ClaimOptions[] = [];
  answer: () => Claim = () => ({ kind: 'alone' });
  renewed: 'held' | 'lost' | 'unknown' = 'held';

  override claim(_ = digest, options: ClaimOptions = {}): Promise<Claim> {
    this.claims.push(options);
    return Promise.resolve(this.answer());
  }

  override renew(): Promise<'held' | 'lost' | 'unknown'> {
    this.done.push('renew');
    return Promise.resolve(this.renewed);
  }

  override async release(lease?: Lease): Promise<void> {
    this.done.push(`release ${lease?.fence}`);
    await Promise.resolve();
  }

  override async hold(): Promise<void> {
    this.done.push('hold');
    await Promise.resolve();
  }

  override enter(name?: string, options?: { max: number }): Promise<AsyncDisposable> {
    this.done.push(`enter ${name} ${options?.max}`);
    return super.enter();
  }
}

function routeWith(options: Partial<SharedRouteOptions> = {}) {
  const coordinator = new Noted();
  const opened: [string, object][] = [];
  const copies: string[] = [];
  const avoided = new Map<string, PeerFault>();
  const peers = quietPeers(avoided, {
    open: (to, _, asked) => {
      opened.push([to.id, asked]);
      return Promise.reject(new Error('nothing is read here'));
    },
    askToCopy: async (to, of, through) => {
      copies.push(`${to.id} ${of === digest} ${through}`);
      await Promise.resolve();
    },
  });
  const sources = new SourceList();
  sources.add([upstream]);
  const route = new SharedRoute({
    digest,
    sources,
    through: upstream.repository,
    access: () => Promise.resolve('in one way'),
    coordinator,
    peers,
    owners: [],
    copies: [],
    ...options,
  });
  const next = () => route.next({ patience: 8, ranged: false }, signal);
  const fails = (source: Source | undefined, fault: PeerFault): void =>
    route.failed(source!, new PeerFailure('x', fault, { sentence: 'failed' }));
  return { coordinator, opened, copies, avoided, sources, route, next, fails };
}

const lease: Claim = { kind: 'lease', lease: { digest, fence: 3 } };

test('a blob that other replicas are to keep is asked of the best of them that is of use', async () => {
  const { route, next, fails, opened, coordinator, sources } = routeWith({ owners: [replica('a'), replica('b')] });
  expect([route.isKept, route.isServing, route.isFollowing]).toEqual([false, false, false]);
  const first = await next();
  expect(first).toMatchObject({
    id: 'replica http://a:5000',
    replica: 'a',
    upstream: '',
    repository: '',
    connections: 1,
  });
  expect([route.isServing, route.isFollowing]).toEqual([true, true]);
  await first!.open(digest, { offset: 5, end: 9, signal }).catch(() => undefined);
  expect(opened).toEqual([
    ['a', { want: 'fill', through: 'docker.io/library/app', access: 'in one way', offset: 5, end: 9, signal }],
  ]);
  fails(first, 'absent');
  expect((await next())?.replica).toBe('a');
  fails(first, 'odd');
  const second = await next();
  expect(second?.replica).toBe('b');
  fails(second, 'refused');
  coordinator.answer = () => ({ kind: 'alone' });
  expect(await next()).toBe(upstream);
  expect(route.isFollowing).toBe(false);
  expect(sources.all).toHaveLength(3);
});

test('a replica that was cut in the middle is tried once more, and one that failed twice is not', async () => {
  const { route, next, fails } = routeWith({ owners: [replica('a')] });
  const source = await next();
  route.received();
  fails(source, 'unreachable');
  expect((await next())?.replica).toBe('a');
  fails(source, 'unreachable');
  expect((await next())?.replica).toBeUndefined();
});

test('silences and failures count together, unless bytes came in between', async () => {
  const { next, fails, route } = routeWith({ owners: [replica('a')] });
  const source = await next();
  fails(source, 'silent');
  expect((await next())?.replica).toBe('a');
  route.received();
  fails(source, 'silent');
  expect((await next())?.replica).toBe('a');
  fails(source, 'absent');
  expect((await next())?.replica).toBeUndefined();
});

test('a replica that is avoided is not asked', async () => {
  const { avoided, next } = routeWith({ owners: [replica('a')] });
  avoided.set('a', 'odd');
  expect(await next()).toBe(upstream);
});

test('where it is not known how the upstream is reached, no other replica is asked', async () => {
  const access = () => Promise.resolve(undefined);
  const { coordinator, next, route } = routeWith({ owners: [replica('a')], access });
  expect(await next()).toBe(upstream);
  expect([coordinator.claims, route.isServing]).toEqual([[], true]);
});

describe('a replica with the lease', () => {
  const leading = async (options: Partial<SharedRouteOptions> = {}) => {
    const site = routeWith(options);
    site.coordinator.answer = () => lease;
    expect(await site.next()).toBe(upstream);
    return site;
  };

  test('reads from the upstream without another claim, and gives the lease back', async () => {
    const { coordinator, next, route } = await leading();
    expect([await next(), coordinator.claims.length, route.isServing, route.isKept]).toEqual([upstream, 1, true, true]);
    await route.end(false);
    expect(coordinator.done).toEqual(['release 3']);
    expect([route.isServing, route.guard(upstream)]).toEqual([false, undefined]);
    await route.end(false);
    expect(coordinator.done).toEqual(['release 3']);
  });

  test('announces the blob before it gives the lease back, and asks others to copy it', async () => {
    const { coordinator, route, copies } = await leading({ copies: [replica('c')] });
    await route.end(true);
    expect(coordinator.done).toEqual(['hold', 'release 3']);
    expect(copies).toEqual(['c true docker.io/library/app']);
    const other = await leading({ copies: [replica('c')] });
    await other.route.end(false);
    expect(other.copies).toEqual([]);
  });

  test('guards what is read from the upstream, and nothing else', async () => {
    const { route } = await leading();
    expect(route.guard(upstream)?.aborted).toBe(false);
    expect(route.guard({ ...upstream, replica: 'a' })).toBeUndefined();
    await route.end(false);
  });

  test('takes one of the connections of all replicas where there is a limit', async () => {
    const { route, coordinator } = await leading();
    await (await route.enter(upstream, signal))?.[Symbol.asyncDispose]();
    const { maxConnections: _, ...unlimited } = upstream;
    expect(await route.enter(unlimited, signal)).toBeUndefined();
    expect(coordinator.done).toEqual(['enter docker.io 7']);
    await route.end(false);
  });

  test.each<
    [string, (site: Awaited<ReturnType<typeof leading>>, tick: (ms: number) => Promise<void>) => Promise<number>]
  >([
    [
      'each second while bytes arrive',
      async ({ route, coordinator }, tick) => {
        for (let second = 0; second < 20; second += 1) {
          route.received();
          await tick(1_000);
        }
        return coordinator.done.length - 20;
      },
    ],
    [
      'for ten seconds before the first byte',
      async ({ coordinator }, tick) => {
        for (let second = 0; second < 20; second += 1) await tick(1_000);
        return coordinator.done.length - 9;
      },
    ],
    [
      'for ten more seconds after a failure',
      async ({ route, coordinator }, tick) => {
        for (let second = 0; second < 5; second += 1) await tick(1_000);
        route.failed(upstream, new Error('x'));
        for (let second = 0; second < 20; second += 1) await tick(1_000);
        return coordinator.done.length - 14;
      },
    ],
    [
      'not any more once bytes have stopped',
      async ({ route, coordinator }, tick) => {
        route.received();
        for (let second = 0; second < 5; second += 1) await tick(1_000);
        return coordinator.done.length - 1;
      },
    ],
    [
      'not before a second is over',
      async ({ route, coordinator }, tick) => {
        route.received();
        await tick(999);
        return coordinator.done.length;
      },
    ],
  ])('renews it %s', async (_, act) => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] });
    try {
      const site = await leading();
      const tick = async (ms: number): Promise<void> => {
        vi.advanceTimersByTime(ms);
        await new Promise(setImmediate);
      };
      expect(await act(site, tick)).toBe(0);
      await site.route.end(false);
      const { length } = site.coordinator.done;
      site.route.received();
      await tick(5_000);
      expect(site.coordinator.done).toHaveLength(length);
    } finally {
      vi.useRealTimers();
    }
  });

  test.each(['lost', 'unknown'] as const)(
    'that is %s to another one leaves its upstream only where that is certain',
    async (state) => {
      vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] });
      try {
        const { route, coordinator } = await leading();
        coordinator.renewed = state;
        const guard = route.guard(upstream)!;
        vi.advanceTimersByTime(1_000);
        await new Promise(setImmediate);
        expect([guard.aborted, route.isServing]).toEqual([state === 'lost', state === 'unknown']);
        if (state === 'lost') expect(guard.reason).toMatchObject({ reason: 'superseded' });
        await route.end(false);
        expect(coordinator.done.includes('release 3')).toBe(state === 'unknown');
      } finally {
        vi.useRealTimers();
      }
    },
  );
});

test('a route of one replica takes the sources in their order, and keeps what it reads', async () => {
  const sources = new SourceList();
  sources.add([upstream]);
  const route = new DirectRoute(sources);
  expect([route.isKept, route.isFollowing, route.isServing]).toEqual([true, false, false]);
  expect(await route.next({ patience: 1, ranged: false })).toBe(upstream);
  expect([route.guard(), await route.enter(), await route.end()]).toEqual([undefined, undefined, undefined]);
  sources.failed(upstream, new RegistryError('cut', 'cut'));
  expect(await route.next({ patience: 1, ranged: false })).toBeUndefined();
});
