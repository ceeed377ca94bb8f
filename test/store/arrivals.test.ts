import { expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { Arrivals } from '../../src/store/eviction/arrivals.ts';

const digest = (name: string) => digestOf(Buffer.from(name));

function start(limitBytes: number) {
  return new Arrivals({
    images: { partsToCome: () => undefined, parents: () => [], namedLately: () => [] } as never,
    limitBytes: () => limitBytes,
    isInUse: () => false,
  });
}

test('counts what is stored and what is to come of all that is reserved, each blob once and no pinned one', () => {
  const arrivals = start(1_000);
  const one = arrivals.reserve([
    { digest: digest('a'), bytes: 100, isStored: true },
    { digest: digest('b'), bytes: 200, isStored: false },
    { digest: digest('pinned'), bytes: 5_000, isStored: true, isPinned: true },
  ]);
  expect([one.state, arrivals.heldBytes, arrivals.comingBytes]).toEqual(['admitted', 100, 200]);
  const two = arrivals.reserve([
    { digest: digest('b'), bytes: 200, isStored: false },
    { digest: digest('c'), bytes: 300, isStored: false },
  ]);
  expect([arrivals.heldBytes, arrivals.comingBytes]).toEqual([100, 500]);
  arrivals.stored(digest('b'), 210);
  expect([arrivals.heldBytes, arrivals.comingBytes]).toEqual([310, 300]);
  arrivals.end(one);
  expect([arrivals.heldBytes, arrivals.comingBytes]).toEqual([210, 300]);
  arrivals.end(two);
  expect([arrivals.heldBytes, arrivals.comingBytes]).toEqual([0, 0]);
  expect(arrivals.stateOf(digest('b'))).toBeUndefined();
});

test('lets wait what does not fit beside what is reserved, and admits it once that has ended', () => {
  const arrivals = start(1_000);
  const first = arrivals.reserve([{ digest: digest('a'), bytes: 700, isStored: false }]);
  const second = arrivals.reserve([{ digest: digest('b'), bytes: 400, isStored: false }]);
  expect([first.state, second.state]).toEqual(['admitted', 'waiting']);
  expect(arrivals.waitingFor(digest('b'))).toEqual([second]);
  arrivals.end(first);
  expect([second.state, arrivals.comingBytes]).toEqual(['admitted', 400]);
});
