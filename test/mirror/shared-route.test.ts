import { once } from 'node:events';
import { describe, expect, test } from 'vitest';
import type { Claim, ClaimOptions, Replica } from '../../src/coordination/coordinator.ts';
import { PeerFailure, type PeerFault } from '../../src/coordination/peer-failure.ts';
import { SoloCoordinator } from '../../src/coordination/solo.ts';
import { type Source, SourceList } from '../../src/mirror/fill/sources.ts';
import { SharedRoute } from '../../src/mirror/sharing/shared-route.ts';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { quietPeers } from './quiet-peers.ts';

const digest = digestOf(Buffer.from('a layer'));
const holder: Replica = { id: 'holder', address: 'http://10.0.0.1:5000', boot: '1', isOffline: false };
const upstream: Source = {
  id: 'upstream',
  upstream: 'docker.io',
  repository: 'docker.io/library/app',
  connections: 1,
  open: () => Promise.reject(new Error('not read')),
};

/** Another replica fetches the digest, as long as it has its lease. */
class OneHolder extends SoloCoordinator {
  hasLapsed = false;
  /** Whether another one has taken the lease over meanwhile. */
  isLost = false;
  /** Whether it has all of it. */
  isHeld = false;
  readonly takenOver: number[] = [];
  override readonly replicas = [holder] as never[];

  override claim(_: Digest = digest, { avoid = [], takeOver }: ClaimOptions = {}): Promise<Claim> {
    if (takeOver !== undefined) this.takenOver.push(takeOver);
    if (this.isHeld) return Promise.resolve({ kind: 'held', replicas: [holder] });
    if (this.hasLapsed || takeOver === 7) return Promise.resolve({ kind: 'lease', lease: { digest, fence: 8 } });
    return Promise.resolve({ kind: 'filling', fence: 7, replicas: avoid.includes(holder.id) ? [] : [holder] });
  }

  override renew(): Promise<'held' | 'lost'> {
    return Promise.resolve(this.isLost ? 'lost' : 'held');
  }
}

function start() {
  const coordinator = new OneHolder();
  const avoided = new Map<string, PeerFault>();
  const leftAlone: string[] = [];
  const peers = quietPeers(avoided, { avoid: (id, fault) => void leftAlone.push(`${id}: ${fault}`) });
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
  });
  const fails = (source: Source, fault: PeerFault): void => {
    // The replica is left alone for a while, by all fills.
    avoided.set(holder.id, fault);
    route.failed(source, new PeerFailure(holder.id, fault, { sentence: `another replica is ${fault}` }));
  };
  const next = async (): Promise<Source> => {
    const source = await route.next({ patience: 1, ranged: false }, AbortSignal.timeout(60_000));
    if (source === undefined) throw new Error('there is no source');
    return source;
  };
  return { coordinator, avoided, leftAlone, route, fails, next };
}

describe('a replica that fetches for all and does not answer in time', () => {
  test('is asked once more as long as it has the lease, and then replaced', async () => {
    const { coordinator, fails, next, route } = start();
    const first = await next();
    expect(first.replica).toBe(holder.id);
    fails(first, 'silent');
    const second = await next();
    expect([second.replica, coordinator.takenOver]).toEqual([holder.id, []]);
    fails(second, 'silent');
    expect([await next(), coordinator.takenOver]).toEqual([upstream, [7]]);
    await route.end(false);
  });

  test('does not count as silent twice if bytes came in between', async () => {
    const { coordinator, fails, next, route } = start();
    for (let turn = 0; turn < 5; turn += 1) {
      const source = await next();
      expect(source.replica).toBe(holder.id);
      route.received();
      fails(source, 'silent');
    }
    expect(coordinator.takenOver).toEqual([]);
  });

  test('is asked although another fill has just found it silent', async () => {
    const { avoided, next } = start();
    avoided.set(holder.id, 'silent');
    expect((await next()).replica).toBe(holder.id);
  });

  test('is replaced at once when its lease has lapsed', async () => {
    const { coordinator, fails, next, route } = start();
    fails(await next(), 'silent');
    coordinator.hasLapsed = true;
    expect([await next(), coordinator.takenOver]).toEqual([upstream, []]);
    await route.end(false);
  });
});

test.each(['unreachable', 'refused'] as const)(
  'a replica that is %s is replaced without another question',
  async (fault) => {
    const { coordinator, fails, next, route } = start();
    fails(await next(), fault);
    expect([await next(), coordinator.takenOver]).toEqual([upstream, [7]]);
    await route.end(false);
  },
);

test('a replica whose lease was taken from it leaves its upstream, and may ask it again when no other replica can be read', async () => {
  const { coordinator, fails, next, route } = start();
  coordinator.hasLapsed = true;
  const source = await next();
  coordinator.hasLapsed = false;
  const guard = route.guard(source)!;
  expect([source, guard.aborted]).toEqual([upstream, false]);
  coordinator.isLost = true;
  await once(guard, 'abort');
  // The replica that replaced it can be read from, and is not replaced in turn.
  expect((await next()).replica).toBe(holder.id);
  fails(await next(), 'unreachable');
  expect([await next(), route.guard(upstream), coordinator.takenOver]).toEqual([upstream, undefined, []]);
  await route.end(false);
});

test('wrong bytes are held against a replica that had verified them, not against one that passed them on', async () => {
  const { leftAlone, next, route } = start();
  route.wrongBytes([await next()]);
  expect(leftAlone).toEqual([]);
  const other = start();
  other.coordinator.isHeld = true;
  other.route.wrongBytes([await other.next()]);
  expect(other.leftAlone).toEqual(['holder: wrong']);
});
