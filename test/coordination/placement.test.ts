import { expect, test } from 'vitest';
import { ownersOf } from '../../src/coordination/placement.ts';
import { digest } from './support.ts';

const replicas = Array.from({ length: 10 }, (_, index) => `replica-${index}`);
const digests = Array.from({ length: 2_000 }, (_, index) => digest(index));

test('each replica owns about its share, and everybody sees the same owners', () => {
  const counts = new Map<string, number>();
  for (const one of digests) {
    const owners = ownersOf(one, replicas, 2);
    expect(ownersOf(one, replicas.toReversed(), 2)).toEqual(owners);
    for (const owner of owners) counts.set(owner, (counts.get(owner) ?? 0) + 1);
  }
  for (const replica of replicas) expect(counts.get(replica)).toBeGreaterThan(300);
});

test('when a replica leaves only what it owned moves', () => {
  const gone = replicas[3]!;
  const left = replicas.filter((replica) => replica !== gone);
  for (const one of digests) {
    const before = ownersOf(one, replicas, 2);
    const after = ownersOf(one, left, 2);
    expect(after.filter((owner) => before.includes(owner))).toEqual(before.filter((owner) => owner !== gone));
  }
});

test('there are no more owners than replicas', () => {
  expect(ownersOf(digest(1), ['a'], 2)).toEqual(['a']);
  expect(ownersOf(digest(1), [], 2)).toEqual([]);
});
