import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, test, vi } from 'vitest';
import { within } from '../../src/coordination/breaker.ts';

const times = { deadlineMs: 1000, slowMs: 100, isTooSlow: () => false };

test('a result that comes, or fails, in time leaves no timer behind', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  try {
    expect(await within(Promise.resolve('answer'), times)).toBe('answer');
    await expect(within(Promise.reject(new Error('refused')), times)).rejects.toThrow('refused');
    // What follows a result runs before the next turn.
    await nextTurn();
    expect(vi.getTimerCount()).toBe(0);
  } finally {
    vi.useRealTimers();
  }
});
