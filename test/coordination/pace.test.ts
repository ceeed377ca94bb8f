import { expect, test } from 'vitest';
import { Pace } from '../../src/coordination/breaker.ts';

/** Asks, is answered late, and tells whether that was one too many. */
function late(pace: Pace): boolean {
  const question = pace.ask();
  const isTooMany = question.late();
  question.ended();
  return isTooMany;
}

test('three answers that are late one after another are too many', () => {
  const pace = new Pace();
  expect([late(pace), late(pace), late(pace)]).toEqual([false, false, true]);
});

test('one in between that is not starts over', () => {
  const pace = new Pace();
  expect([late(pace), late(pace)]).toEqual([false, false]);
  pace.ask().ended();
  expect([late(pace), late(pace), late(pace)]).toEqual([false, false, true]);
});

test('what is waited for at the same time is one, however much it is', () => {
  const pace = new Pace();
  const together = Array.from({ length: 50 }, () => pace.ask());
  expect(together.some((question) => question.late())).toBe(false);
  const meanwhile = pace.ask();
  for (const question of together) question.ended();
  expect(meanwhile.late()).toBe(false);
  meanwhile.ended();
  expect([late(pace), late(pace)]).toEqual([false, true]);
});
