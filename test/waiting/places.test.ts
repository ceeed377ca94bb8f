import { expect, test } from 'vitest';
import { Places } from '../../src/waiting/places.ts';

/** Whether a promise has settled after everything that is due now. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  return await Promise.race([promise.then(() => true), new Promise<false>((resolve) => setImmediate(resolve, false))]);
}

test('a group with fewer than a quarter of the places gets one although all are taken', async () => {
  const places = new Places({ maxFills: 8 });
  const slow = Array.from({ length: 9 }, () => ({ group: 'slow' }));
  const taken = slow.map((who) => places.take(who));
  expect(await Promise.all(taken.slice(0, 8).map(isSettled))).toEqual(Array.from({ length: 8 }, () => true));
  expect(await isSettled(taken[8]!)).toBe(false);
  const others = [{ group: 'other' }, { group: 'other' }, { group: 'other' }];
  const own = others.map((who) => places.take(who));
  expect(await Promise.all(own.map(isSettled))).toEqual([true, true, false]);
  // A place that one group gives back does not go to another one that has more than its share.
  places.giveBack(others[0]!);
  expect(await own[2]).toBe(true);
  expect(places.isWaiting(slow[8]!)).toBe(true);
});

test('places beyond the limit are given only to those that wait, and not without a limit', async () => {
  const places = new Places({ maxFills: 1 });
  const who = Array.from({ length: 70 }, () => ({ group: 'one' }));
  const taken = who.map((one) => places.take(one));
  expect(places.giveAnyway(who[0]!)).toBe(false);
  const given = who.slice(1).map((one) => places.giveAnyway(one));
  expect(given.filter(Boolean)).toHaveLength(64);
  expect(await isSettled(taken[64]!)).toBe(true);
  expect(await isSettled(taken[65]!)).toBe(false);
  // All of them are given back before the next one gets a place.
  for (const one of who.slice(0, 64)) places.giveBack(one);
  expect(await isSettled(taken[65]!)).toBe(false);
  places.giveBack(who[64]!);
  expect(await taken[65]).toBe(true);
});
