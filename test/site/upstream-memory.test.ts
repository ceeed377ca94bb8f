import { expect, test } from 'vitest';
import { MemoryBudget } from '../../src/memory/memory-budget.ts';
import { UpstreamMemory } from '../../src/site/upstream-memory.ts';

const MiB = 1024 * 1024;

/** How many pieces there is room for. */
function taken(memory: { tryAdd(bytes: number): boolean }, pieceBytes: number): number {
  let pieces = 0;
  while (pieces < 1_000 && memory.tryAdd(pieceBytes)) pieces += 1;
  return pieces;
}

test('lists of one upstream take an eighth of the memory, those of all a quarter, and manifests have their own', () => {
  const budget = new MemoryBudget({ memoryBytes: 400 * MiB });
  const memory = new UpstreamMemory(budget);
  const [one, other, third] = [memory.ofUpstream(), memory.ofUpstream(), memory.ofUpstream()];
  expect([one, other, third].map(({ lists }) => taken(lists, MiB))).toEqual([50, 50, 0]);
  expect([one, other, third].map(({ manifests }) => taken(manifests, MiB))).toEqual([100, 100, 0]);
  expect(budget.usedBytes).toBe(300 * MiB);
  one.lists.release(10 * MiB);
  expect(taken(third.lists, MiB)).toBe(10);
  expect(budget.usedBytes).toBe(300 * MiB);
});

test('one list fits in any case, and nothing goes past the whole budget', () => {
  const budget = new MemoryBudget({ memoryBytes: 20 * MiB });
  const { lists, manifests } = new UpstreamMemory(budget).ofUpstream();
  expect(taken(lists, 16 * MiB)).toBe(1);
  expect(taken(manifests, MiB)).toBe(4);
});
