import { expect, test } from 'vitest';
import { RegistryError } from '../../src/oci/error.ts';
import { type Obtained, Renewed } from '../../src/upstream/credentials/renewed.ts';
import { never } from './support.ts';

const signal = never();
const basic = (password: string) => ({ kind: 'basic', username: 'u', password }) as const;

/** A credential that is obtained by hand, by a clock that is moved. */
function renewed({ lifeMs = 60_000, renewAfterMs }: { lifeMs?: number; renewAfterMs?: number } = {}) {
  const time = { now: 0 };
  const state = { asked: 0, fails: false, isSame: false };
  const source = new Renewed({
    now: () => time.now,
    obtain: (): Promise<Obtained> => {
      state.asked += 1;
      if (state.fails) return Promise.reject(new RegistryError('no-credentials', `failure ${state.asked}`));
      return Promise.resolve({
        credential: basic(state.isSame ? 'same' : `p${state.asked}`),
        expiresAtMs: time.now + lifeMs,
        ...(renewAfterMs !== undefined && { renewAtMs: time.now + renewAfterMs }),
      });
    },
  });
  const password = async () => {
    const credential = await source.get({ signal });
    return credential?.kind === 'basic' ? credential.password : undefined;
  };
  return { time, state, source, password };
}

test('a credential is obtained once for all who ask at once, and used until two thirds of its life', async () => {
  const { time, state, password } = renewed();
  expect(await Promise.all([password(), password()])).toEqual(['p1', 'p1']);
  time.now = 39_999;
  expect(await password()).toBe('p1');
  expect(state.asked).toBe(1);
  time.now = 40_000;
  // The old one is still good: it is given at once, and another one is obtained in the background.
  expect(await password()).toBe('p1');
  expect(state.asked).toBe(2);
  expect(await password()).toBe('p2');
});

test('a credential is renewed earlier where its source says so, and never later', async () => {
  const early = renewed({ renewAfterMs: 10_000 });
  await early.password();
  early.time.now = 9_999;
  await early.password();
  expect(early.state.asked).toBe(1);
  early.time.now = 10_000;
  await early.password();
  expect(early.state.asked).toBe(2);
  const late = renewed({ renewAfterMs: 50_000 });
  await late.password();
  late.time.now = 40_000;
  await late.password();
  expect(late.state.asked).toBe(2);
});

test('a credential is not given in the last five seconds of its life', async () => {
  const { time, state, password, source } = renewed();
  await password();
  state.fails = true;
  time.now = 54_999;
  expect(await password()).toBe('p1');
  expect(source.status()).toMatchObject({ expiresAtMs: 60_000 });
  time.now = 54_999 + 2_000;
  await expect(password()).rejects.toThrow('failure 3');
});

test('while renewal fails the credential is used, and the pause doubles up to a minute', async () => {
  const { time, state, password, source } = renewed({ lifeMs: 6_000_000 });
  await password();
  state.fails = true;
  time.now = 4_000_000;
  const pauses: number[] = [];
  let last = time.now;
  for (let attempt = 2; attempt <= 9; attempt += 1) {
    while (state.asked < attempt) {
      expect(await password()).toBe('p1');
      if (state.asked < attempt) time.now += 500;
    }
    await Promise.resolve();
    pauses.push(time.now - last);
    last = time.now;
  }
  expect(pauses).toEqual([0, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
  expect(source.status()).toEqual({ expiresAtMs: 6_000_000, failure: 'failure 9' });
  state.fails = false;
  time.now += 60_000;
  await password();
  expect(await password()).toBe('p10');
  expect(source.status()).toEqual({ expiresAtMs: time.now + 6_000_000 });
});

test('after a failure nothing is asked for two seconds: callers get that failure', async () => {
  const { time, state, password, source } = renewed();
  expect(source.status()).toEqual({});
  state.fails = true;
  await expect(password()).rejects.toThrow('failure 1');
  time.now = 1_999;
  await expect(password()).rejects.toThrow('failure 1');
  expect(state.asked).toBe(1);
  time.now = 2_000;
  state.fails = false;
  expect(await password()).toBe('p2');
});

test('a refused credential is renewed, at most once a minute', async () => {
  const { time, state, source, password } = renewed();
  expect(await source.refused(basic('p1'), { signal })).toBe(false);
  await password();
  // Requests that were refused together share the renewal.
  const together = [basic('p1'), basic('p1')].map((credential) => source.refused(credential, { signal }));
  expect(await Promise.all(together)).toEqual([true, true]);
  expect(state.asked).toBe(2);
  // One that was sent before the renewal: there is another one already.
  expect(await source.refused(basic('p1'), { signal })).toBe(true);
  expect(await source.refused(basic('p2'), { signal })).toBe(false);
  expect(state.asked).toBe(2);
  time.now = 59_999;
  expect(await source.refused(basic('p2'), { signal })).toBe(false);
  time.now = 60_000;
  expect(await source.refused(basic('p2'), { signal })).toBe(true);
  expect(state.asked).toBe(3);
});

test('a refused credential for which the same one comes again, or none, has no successor', async () => {
  const { state, source, password, time } = renewed();
  state.isSame = true;
  await password();
  expect(await source.refused(basic('same'), { signal })).toBe(false);
  expect(state.asked).toBe(2);
  state.fails = true;
  time.now = 60_000;
  expect(await source.refused(basic('same'), { signal })).toBe(false);
  expect(state.asked).toBe(3);
});

test('a source that has no credential has none that expires', async () => {
  const source = new Renewed({
    now: () => 0,
    obtain: () => Promise.resolve({ credential: undefined, expiresAtMs: 60_000 }),
  });
  expect(await source.get({ signal })).toBeUndefined();
  expect(source.status()).toEqual({});
});

test('a caller that leaves does not end the request of the others', async () => {
  const { promise, resolve } = Promise.withResolvers<Obtained>();
  const source = new Renewed({ now: () => 0, obtain: () => promise });
  const left = new AbortController();
  const first = source.get({ signal: left.signal });
  const second = source.get({ signal });
  left.abort(new Error('left'));
  await expect(first).rejects.toThrow('left');
  resolve({ credential: basic('p'), expiresAtMs: 60_000 });
  expect(await second).toEqual(basic('p'));
});
