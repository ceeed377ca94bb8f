import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { type FairPlace, FairPlaces } from '../../src/waiting/fair-places.ts';

const slowAfterMs = 2_000;
const signal = new AbortController().signal;

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function placesOf(places: number) {
  const fair = new FairPlaces({ places, slowAfterMs });
  const given: string[] = [];
  const take = async (key: string): Promise<FairPlace> => {
    const place = await fair.take(key, signal);
    given.push(key);
    return place;
  };
  const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);
  return { fair, given, take, pass };
}

test('a task waits for a place, and those of several keys take turns', async () => {
  const { given, take, pass } = placesOf(1);
  const first = await take('a');
  const rest = ['a', 'a', 'b', 'a', 'c'].map(take);
  await pass(0);
  expect(given).toEqual(['a']);
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  for (const _ of rest) {
    const place = await Promise.race(rest);
    place[Symbol.dispose]();
    await pass(0);
    void rest.shift();
  }
  expect(given.slice(0, 4)).toEqual(['a', 'a', 'b', 'c']);
});

test('a task that takes long gives its place to one of another key, and its key has places of its own', async () => {
  const { given, take, pass } = placesOf(1);
  const slow = await take('slow');
  void take('slow');
  void take('good');
  await pass(slowAfterMs - 1);
  expect(given).toEqual(['slow']);
  await pass(1);
  expect(given).toEqual(['slow', 'good']);
  // The place of slow keys is taken.
  slow[Symbol.dispose]();
  await pass(0);
  expect(given).toEqual(['slow', 'good', 'slow']);
});

test('a key is slow until one of its tasks succeeds in time', async () => {
  const { given, take, pass } = placesOf(1);
  const late = await take('a');
  await pass(slowAfterMs);
  late.succeeded();
  late[Symbol.dispose]();
  const other = await take('b');
  // Beside the other one: it still has the place of slow keys.
  const soon = await take('a');
  soon.succeeded();
  soon[Symbol.dispose]();
  void take('a');
  await pass(0);
  expect(given).toEqual(['a', 'b', 'a']);
  other[Symbol.dispose]();
  await pass(0);
  expect(given).toEqual(['a', 'b', 'a', 'a']);
});

test('keys that are slow and wait do not keep another one waiting', async () => {
  const { given, take, pass } = placesOf(2);
  for (const key of ['x', 'y']) void take(key);
  await pass(slowAfterMs);
  for (const key of ['x', 'y', 'x']) void take(key);
  await pass(0);
  void take('good');
  await pass(0);
  expect(given).toEqual(['x', 'y', 'good']);
});

test('several places that become free are given to one key that waits', async () => {
  const { given, take, pass } = placesOf(2);
  const held = [await take('a'), await take('b')];
  for (let count = 0; count < 3; count += 1) void take('c');
  for (const place of held) place[Symbol.dispose]();
  await pass(0);
  expect(given).toEqual(['a', 'b', 'c', 'c']);
});

test('there is an end to the tasks that take long', async () => {
  const { given, take, pass } = placesOf(1);
  const held: Promise<FairPlace>[] = [];
  for (let count = 0; count < 8; count += 1) {
    held.push(take(`slow ${count}`));
    await pass(slowAfterMs);
  }
  expect(given).toHaveLength(FairPlaces.most(1));
  (await held[0]!)[Symbol.dispose]();
  await pass(0);
  expect(given).toHaveLength(FairPlaces.most(1) + 1);
});

test('a task that is not wanted any more leaves', async () => {
  const { fair, given, take, pass } = placesOf(1);
  const first = await take('a');
  const leaving = new AbortController();
  const [left, staying] = [fair.take('b', leaving.signal), take('b')];
  leaving.abort(new Error('left'));
  await expect(left).rejects.toThrow('left');
  await expect(fair.take('c', leaving.signal)).rejects.toThrow('left');
  first[Symbol.dispose]();
  await staying;
  await pass(0);
  expect(given).toEqual(['a', 'b']);
});
