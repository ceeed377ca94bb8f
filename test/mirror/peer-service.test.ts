import { describe, expect, test } from 'vitest';
import type { Replica } from '../../src/coordination/coordinator.ts';
import type { PeerAccess } from '../../src/coordination/peers.ts';
import { SoloCoordinator } from '../../src/coordination/solo.ts';
import { DirectRoute, SourceList } from '../../src/mirror/fill/sources.ts';
import { PeerService, type PeerServiceOptions } from '../../src/mirror/sharing/peer-service.ts';
import { routeOf, SharedRoute } from '../../src/mirror/sharing/shared-route.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { RegistryError } from '../../src/oci/error.ts';
import { Replicas } from '../../src/replicas/replicas.ts';
import { DiskFault } from '../../src/store/files/blob-store.ts';
import { type Repository, repositoryOf } from '../../src/upstream/repository.ts';
import type { Upstream } from '../../src/upstream/upstream.ts';
import { Progress } from '../../src/waiting/progress.ts';

const digest = digestOf(Buffer.from('a blob'));
const signal = new AbortController().signal;
const key = 'docker.io/library/app';

class Others extends SoloCoordinator {
  override readonly isAlone: true = false as unknown as true;
  readonly dropped: string[] = [];

  override drop(of?: string): void {
    this.dropped.push(of!);
  }
}

function fillOf(state: string) {
  const holders = { count: 0 };
  const fill = {
    state,
    heading: { size: 6, contentType: 'f/f' },
    generation: 0,
    progress: new Progress(),
    partial: { availableFrom: () => 6 },
    unverifiedFrom: () => undefined,
    want: () => undefined,
    hold: () => (holders.count += 1),
    release: () => Promise.resolve((holders.count -= 1)),
  };
  return { fill, holders };
}

/** What other replicas may have of a mirror whose disk, fills and upstream a test writes. */
function serviceWith(options: Partial<PeerServiceOptions> = {}) {
  const state = {
    stored: undefined as 'here' | 'broken' | 'bug' | undefined,
    contentType: 'a/b' as string | undefined,
    following: undefined as ReturnType<typeof fillOf> | undefined,
    has: false,
    isShown: false,
    requireShown: (() => Promise.resolve(false)) as () => Promise<boolean>,
    open: 0,
    touched: 0,
    faults: [] as unknown[],
    joined: [] as unknown[],
    joinedFill: fillOf('running'),
    readers: 0,
  };
  const fault = new DiskFault('the disk cannot read', { cause: new Error('EIO') });
  const coordinator = new Others();
  const fingerprint = () => Promise.resolve('in one way');
  const upstream = { name: 'docker.io', fingerprint } as unknown as Upstream;
  const repository = repositoryOf(upstream, 'library/app');
  const service = new PeerService({
    store: {
      open: () => {
        if (state.stored === undefined) return Promise.resolve(undefined);
        if (state.stored === 'broken') return Promise.reject(fault);
        if (state.stored === 'bug') return Promise.reject(new TypeError('bug'));
        state.open += 1;
        return Promise.resolve({
          size: 6,
          bytes: undefined,
          [Symbol.asyncDispose]: () => Promise.resolve((state.open -= 1)),
        });
      },
    } as unknown as PeerServiceOptions['store'],
    catalog: {
      uses: { touch: () => (state.touched += 1) },
      blobs: {
        get: () => state.contentType && { contentType: state.contentType },
        isShown: () => state.isShown,
      },
      grants: { expectedSize: () => 6 },
    } as unknown as PeerServiceOptions['catalog'],
    fills: {
      following: () => state.following?.fill,
      has: () => state.has,
      join: (...given: unknown[]) => {
        state.joined.push(given);
        state.readers += 1;
        return {
          fill: state.joinedFill.fill,
          reader: { [Symbol.asyncDispose]: () => Promise.resolve((state.readers -= 1)) },
        };
      },
    } as unknown as PeerServiceOptions['fills'],
    coordinator,
    offline: false,
    repository: (name) => (name === key ? repository : undefined),
    onDiskFault: (error) => state.faults.push(error),
    requireShown: () => state.requireShown(),
    ...options,
  });
  const question = { want: 'stored', offset: 0, through: key, access: 'in one way', signal } as const;
  const open = (more: Partial<Parameters<PeerService['open']>[1]> = {}) =>
    service.open(digest, { ...question, ...more });
  const copy = (more: Partial<Parameters<PeerService['open']>[1]> = {}) =>
    service.copy(digest, { ...question, ...more });
  return { state, service, open, copy, coordinator, fault, repository };
}

describe('a stored blob', () => {
  test('is given to a replica of an earlier version, which sees to the right itself', async () => {
    const { open, state } = serviceWith();
    state.stored = 'here';
    const found = await open({ access: undefined, through: undefined });
    expect(found).toMatchObject({ size: 6, contentType: 'a/b' });
    expect([state.open, state.touched]).toEqual([1, 1]);
    await found?.body[Symbol.asyncDispose]();
    expect(state.open).toBe(0);
    state.contentType = undefined;
    expect(await open({ access: undefined })).toMatchObject({ contentType: 'application/octet-stream' });
  });

  test('is given where its upstream has shown that it has it', async () => {
    const { open, state, coordinator } = serviceWith();
    state.stored = 'here';
    state.isShown = true;
    expect(await open()).toMatchObject({ size: 6 });
    state.isShown = false;
    state.requireShown = () => Promise.resolve(true);
    expect(await open()).toMatchObject({ size: 6 });
    expect([state.open, coordinator.dropped]).toEqual([2, []]);
  });

  test.each<[string, () => Promise<boolean>]>([
    ['not', () => Promise.resolve(false)],
    ['refused to', () => Promise.reject(new RegistryError('denied', 'no'))],
  ])('is not given where its upstream has %s shown that, and stays known to be here', async (_, requireShown) => {
    const { open, state, coordinator } = serviceWith();
    Object.assign(state, { stored: 'here', requireShown });
    expect(await open()).toBeUndefined();
    expect([state.open, coordinator.dropped, state.joined]).toEqual([0, [], []]);
  });

  test('is not given where the question fails for a reason of ours', async () => {
    const { open, state } = serviceWith();
    Object.assign(state, { stored: 'here', requireShown: () => Promise.reject(new TypeError('bug')) });
    await expect(open()).rejects.toThrow('bug');
    state.stored = 'bug';
    await expect(open({ access: undefined })).rejects.toThrow('bug');
  });

  test.each([{ through: 'quay.io/x' }, { through: undefined }, { access: 'in another way' }])(
    'is not given, nor said to be gone, to one that asks with %j',
    async (more) => {
      const { open, state, coordinator } = serviceWith();
      Object.assign(state, { stored: 'here', isShown: true });
      expect(await open(more)).toBeUndefined();
      expect(await open({ ...more, want: 'fill' })).toBeUndefined();
      expect([coordinator.dropped, state.joined]).toEqual([[], []]);
    },
  );

  test.each(['here not', 'broken'] as const)('that is %s is said to be gone', async (how) => {
    const { open, state, coordinator, fault } = serviceWith();
    state.stored = how === 'broken' ? 'broken' : undefined;
    expect(await open()).toBeUndefined();
    expect([coordinator.dropped, state.faults]).toEqual([[digest], how === 'broken' ? [fault] : []]);
    expect(await open({ want: 'filling' })).toBeUndefined();
    expect([coordinator.dropped.length, state.joined]).toEqual([1, []]);
  });
});

describe('a blob under way', () => {
  test('is followed, and preferred to what is stored', async () => {
    const { open, state } = serviceWith();
    Object.assign(state, { stored: 'here', isShown: true, following: fillOf('running') });
    const found = await open({ want: 'filling' });
    expect(found).toMatchObject({ size: 6, contentType: 'f/f' });
    expect([state.following!.holders.count, state.open]).toEqual([1, 0]);
    await found?.body[Symbol.asyncDispose]();
    expect(state.following!.holders.count).toBe(0);
  });

  test('that is verified is as good as stored; one that is not is not', async () => {
    const { open, state, coordinator } = serviceWith();
    state.following = fillOf('running');
    expect(await open()).toBeUndefined();
    expect(coordinator.dropped).toEqual([digest]);
    state.following = fillOf('verified');
    expect(await open()).toMatchObject({ contentType: 'f/f' });
    expect(coordinator.dropped).toHaveLength(1);
  });

  test('that is given up is let go of', async () => {
    const { open, state } = serviceWith();
    state.following = fillOf('failed');
    await expect(open({ want: 'filling' })).rejects.toMatchObject({ reason: 'not-found' });
    expect(state.following.holders.count).toBe(0);
  });

  test('is begun for one that wants it fetched, and kept without a client', async () => {
    const { open, state, repository } = serviceWith();
    expect(await open({ want: 'fill' })).toMatchObject({ contentType: 'f/f' });
    expect(state.joined).toEqual([[digest, { repository, expectedSize: 6, isRanged: false, isOwned: true }]]);
    expect([state.readers, state.joinedFill.holders.count]).toEqual([0, 1]);
    state.stored = 'here';
    await open({ want: 'fill' });
    expect(state.joined).toHaveLength(2);
    state.isShown = true;
    expect(await open({ want: 'fill' })).toMatchObject({ contentType: 'a/b' });
    expect(state.joined).toHaveLength(2);
  });

  test('is not begun offline', async () => {
    const { open, copy, state } = serviceWith({ offline: true });
    expect([await open({ want: 'fill' }), await copy(), state.joined]).toEqual([undefined, false, []]);
  });
});

describe('a copy', () => {
  test('is begun where the blob is neither here nor on its way', async () => {
    const { copy, state } = serviceWith();
    expect(await copy()).toBe(true);
    expect([state.joined.length, state.joinedFill.holders.count]).toEqual([1, 0]);
    state.has = true;
    expect(await copy()).toBe(true);
    Object.assign(state, { has: false, stored: 'here' });
    expect(await copy()).toBe(true);
    expect([state.joined.length, state.open]).toEqual([1, 0]);
  });

  test.each(['quay.io/x', undefined])('is not begun through %s', async (through) => {
    const { copy, state } = serviceWith();
    expect([await copy({ through }), state.joined]).toEqual([false, []]);
  });
});

describe('the route of a fill', () => {
  const replica = (id: string): Replica => ({ id, address: `http://${id}`, boot: '', isOffline: false });
  const peers = { isAvoided: () => false } as unknown as PeerAccess;

  class Fleet extends Others {
    override readonly self = 'me' as '';
    override readonly replicas = [replica('a'), replica('b')] as never[];
  }

  const upstream = { name: 'docker.io', fingerprint: () => Promise.resolve('x') } as unknown as Upstream;
  const options = (isOwned = false) => ({
    digest,
    sources: new SourceList(),
    repository: repositoryOf(upstream, 'library/app') satisfies Repository,
    isOwned,
  });

  test('is direct where there are no other replicas, or none can be asked', () => {
    expect(routeOf(Replicas.none(), options())).toBeInstanceOf(DirectRoute);
    const alone = new Replicas({ coordinator: new SoloCoordinator(), peers, copies: 1 });
    expect(routeOf(alone, options())).toBeInstanceOf(DirectRoute);
    const mute = new Replicas({ coordinator: new Fleet(), peers: undefined, copies: 1 });
    expect(routeOf(mute, options())).toBeInstanceOf(DirectRoute);
  });

  test('keeps the blob here where this replica is one of those that keep it, or is asked to', () => {
    const of = (copies: number | undefined, isOwned = false) => {
      const route = routeOf(new Replicas({ coordinator: new Fleet(), peers, copies }), options(isOwned));
      expect(route).toBeInstanceOf(SharedRoute);
      return route.isKept;
    };
    expect([of(3), of(undefined), of(1, true)]).toEqual([true, true, true]);
    const { coordinator } = new Replicas({ coordinator: new Fleet(), peers, copies: 1 });
    const [owner] = new Replicas({ coordinator, peers, copies: 1 }).owners(digest);
    expect(of(1)).toBe(owner?.id === 'me');
    const elsewhere = Array.from({ length: 50 }, (_, index) => digestOf(Buffer.from(`${index}`))).find(
      (one) => new Replicas({ coordinator, peers, copies: 1 }).owners(one)[0]?.id !== 'me',
    )!;
    const replicas = new Replicas({ coordinator: new Fleet(), peers, copies: 1 });
    expect(routeOf(replicas, { ...options(), digest: elsewhere }).isKept).toBe(false);
    expect(routeOf(replicas, { ...options(true), digest: elsewhere }).isKept).toBe(true);
  });
});
