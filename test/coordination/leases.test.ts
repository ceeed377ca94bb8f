import { describe, expect, test } from 'vitest';
import type { Replica } from '../../src/coordination/coordinator.ts';
import { Leases } from '../../src/coordination/leases.ts';
import { fakeLink, lost, type Run } from './fake-link.ts';
import { digest } from './support.ts';

function replica(id: string): Replica {
  return { id, address: `http://${id}:5000`, boot: '1', isOffline: false };
}

/** The leases of the replica `me`, to whom the replicas whose ids are upper case are known. */
function leasesWith(answer: (run: Run, count: number) => unknown) {
  const { link, runs, scripts } = fakeLink(answer);
  const leases = new Leases({
    link,
    self: () => 'me',
    replica: (id) => (id === id.toUpperCase() ? replica(id) : undefined),
  });
  return { leases, runs, scripts };
}

const blob = digest(1);

describe('a claim', () => {
  test('names the replica, what it avoids and what it takes over', async () => {
    const { leases, runs } = leasesWith(() => ['lease', '7']);
    await leases.claim(blob, {});
    await leases.claim(blob, { avoid: ['A', 'B'], takeOver: 0, lane: 'docker.io' });
    expect(runs).toEqual([
      {
        script: 'claim',
        keys: [`fill:{${blob}}`, `holders:{${blob}}`],
        values: ['me', 3_000, '', 4, '', 16],
      },
      {
        script: 'claim',
        keys: [`fill:{${blob}}:docker.io`, `holders:{${blob}}`],
        values: ['me', 3_000, '0', 4, 'A,B', 16],
      },
    ]);
  });

  test('that is granted is a lease, listed until it is released', async () => {
    const { leases, runs } = leasesWith(({ script }) => (script === 'claim' ? ['lease', '7'] : 1));
    const claim = await leases.claim(blob, {});
    expect(claim).toEqual({ kind: 'lease', lease: { digest: blob, fence: 7 } });
    const inLane = await leases.claim(blob, { lane: 'x' });
    expect(inLane).toEqual({ kind: 'lease', lease: { digest: blob, fence: 7, lane: 'x' } });
    expect(leases.held).toEqual([
      { digest: blob, fence: 7 },
      { digest: blob, fence: 7, lane: 'x' },
    ]);
    await leases.release({ digest: blob, fence: 7 });
    expect(runs.at(-1)).toEqual({ script: 'release', keys: [`fill:{${blob}}`], values: ['me', '7'] });
    expect(leases.held).toEqual([{ digest: blob, fence: 7, lane: 'x' }]);
  });

  test('of what others fetch names those that are live, in their order', async () => {
    const { leases } = leasesWith(() => ['filling', ['A', 'gone', 'B'], '9']);
    expect(await leases.claim(blob, {})).toEqual({
      kind: 'filling',
      fence: 9,
      replicas: [replica('A'), replica('B')],
    });
  });

  test('of what others hold names all of those that are live, beginning anywhere', async () => {
    const { leases, runs } = leasesWith(() => ['held', ['A', 'gone', 'B', 'C']]);
    const orders = new Set<string>();
    for (let turn = 0; turn < 100; turn += 1) {
      const claim = await leases.claim(blob, {});
      if (claim.kind !== 'held') throw new Error(claim.kind);
      orders.add(claim.replicas.map(({ id }) => id).join(''));
    }
    expect([...orders].toSorted()).toEqual(['ABC', 'BCA', 'CAB']);
    expect(runs).toHaveLength(100);
  });

  test('asks for all holders where none of the first is live, and for none where that helps nothing', async () => {
    const many = Array.from({ length: 16 }, (_, index) => `gone${index}`);
    const { leases, runs } = leasesWith((_, count) =>
      count === 1 ? ['held', many] : count === 2 ? ['held', [...many, 'more']] : ['lease', '1'],
    );
    expect(await leases.claim(blob, {})).toMatchObject({ kind: 'lease' });
    expect(runs.map(({ values }) => values.at(-1))).toEqual([16, 100_000, 0]);
    const few = leasesWith((_, count) => (count === 1 ? ['held', ['gone']] : ['lease', '1']));
    await few.leases.claim(blob, {});
    expect(few.runs.map(({ values }) => values.at(-1))).toEqual([16, 0]);
  });
});

test('a lease is renewed while it is held, and forgotten when another replica has it', async () => {
  const { leases, runs } = leasesWith(({ script }, count) =>
    script === 'claim' ? ['lease', '7'] : count === 2 ? 1 : 0,
  );
  await leases.claim(blob, {});
  expect(await leases.renew({ digest: blob, fence: 7 })).toBe('held');
  expect(runs.at(-1)).toEqual({ script: 'renew', keys: [`fill:{${blob}}`], values: ['me', '7', 3_000] });
  expect(leases.held).toHaveLength(1);
  // A former lease says nothing about the one of now.
  expect(await leases.renew({ digest: blob, fence: 6 })).toBe('lost');
  expect(leases.held).toHaveLength(1);
  expect(await leases.renew({ digest: blob, fence: 7 })).toBe('lost');
  expect(leases.held).toEqual([]);
});

test('a blob that is held is announced for a week, and its live holders are found', async () => {
  const { leases, runs } = leasesWith(({ script }) => (script === 'holders' ? ['A', 'gone', 'B'] : 1));
  await leases.hold(blob);
  expect(runs).toEqual([{ script: 'hold', keys: [`holders:{${blob}}`], values: ['me', 604_800_000] }]);
  expect(await leases.holders(blob)).toEqual([replica('A'), replica('B')]);
  expect(runs.at(-1)).toEqual({ script: 'holders', keys: [`holders:{${blob}}`], values: [] });
});

describe('dropped blobs', () => {
  test('are announced in the background, 32 at a time', async () => {
    const underWay = { now: 0, most: 0 };
    const { leases, runs } = leasesWith(async () => {
      underWay.now += 1;
      underWay.most = Math.max(underWay.most, underWay.now);
      await new Promise(setImmediate);
      underWay.now -= 1;
      return 1;
    });
    for (let number = 1; number <= 70; number += 1) leases.drop(digest(number));
    expect(runs).toEqual([]);
    await expect.poll(() => runs.length).toBe(70);
    expect(underWay.most).toBe(32);
    expect(runs[0]).toEqual({ script: 'hold', keys: [`holders:{${digest(1)}}`], values: ['me', 0] });
    await expect.poll(() => underWay.now).toBe(0);
    leases.drop(digest(71));
    await expect.poll(() => runs.length).toBe(71);
  });

  test('that are back before that are not announced as gone', async () => {
    const { leases, runs, scripts } = leasesWith(() => 1);
    leases.drop(digest(1));
    leases.drop(digest(2));
    await leases.hold(digest(1));
    await expect.poll(scripts).toHaveLength(2);
    expect(runs.map(({ keys, values }) => [keys[0], values[1]])).toEqual([
      [`holders:{${digest(1)}}`, 604_800_000],
      [`holders:{${digest(2)}}`, 0],
    ]);
  });

  test('are forgotten while Redis is lost, and announced again afterwards', async () => {
    const state = { isLost: true };
    const { leases, runs } = leasesWith(() => (state.isLost ? lost() : 1));
    for (let number = 1; number <= 40; number += 1) leases.drop(digest(number));
    await expect.poll(() => runs.length).toBe(32);
    await new Promise(setImmediate);
    expect(runs).toHaveLength(32);
    state.isLost = false;
    leases.drop(digest(50));
    await expect.poll(() => runs.length).toBe(33);
  });

  test('are at most 20,000 that wait', async () => {
    const { leases, runs } = leasesWith(() => 1);
    for (let number = 1; number <= 20_005; number += 1) leases.drop(digest(number));
    await expect.poll(() => runs.length).toBe(20_000);
    await new Promise(setImmediate);
    expect(runs).toHaveLength(20_000);
  });
});
