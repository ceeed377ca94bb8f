import { expect, test } from 'vitest';
import type { RegistryError } from '../../src/oci/error.ts';
import { connectionReason, unavailable } from '../../src/upstream/failures.ts';
import { Gate, type GateOptions } from '../../src/upstream/gate.ts';
import { type Passage, Refusal } from '../../src/upstream/passage.ts';
import { never } from './support.ts';

function createGate(options: Partial<GateOptions> = {}) {
  let nowMs = 1_000_000;
  const events: unknown[] = [];
  const gate = new Gate({
    upstream: 'docker.io',
    service: 'registry',
    url: 'https://registry-1.docker.io/',
    probeMs: 5_000,
    now: () => nowMs,
    report(event) {
      if (event.kind === 'closed') events.push(`closed ${event.state}: ${event.reason}`);
      else events.push(event.kind === 'opened' ? 'opened' : `refused ${event.state}`);
    },
    ...options,
  });
  const enter = () => gate.enter(never());
  return {
    gate,
    events,
    enter,
    pass: (ms: number) => {
      nowMs += ms;
    },
    answer: async (status: number, headers = {}) => (await enter()).answered({ status, headers }),
    fail: async (error: unknown) => (await enter()).failed(error),
    refusal: async () => {
      const error = await enter().catch((thrown: unknown) => thrown);
      if (error instanceof Refusal) return error;
      throw new Error('the request was let through', { cause: error });
    },
  };
}

const timeout = unavailable('docker.io', 'did not answer in time', { reason: 'timeout' });

function unreachable(code: string): RegistryError {
  return unavailable('docker.io', `cannot be reached (${code})`, { reason: connectionReason(code) });
}

test.each<[string, number, string | undefined, number]>([
  ['429 with Retry-After', 429, '60', 60],
  ['429 with a date', 429, new Date(1_090_000).toUTCString(), 90],
  ['429 without Retry-After', 429, undefined, 1],
  ['429 with one that cannot be read', 429, 'soon', 1],
  ['429 with none to wait', 429, '0', 1],
  ['429 with more than an hour', 429, '86400', 3600],
  ['503 with Retry-After', 503, '7', 7],
])('%s closes the gate for as long as it says', async (_, status, retryAfter, seconds) => {
  const { answer, refusal, enter, pass, gate } = createGate();
  await answer(status, { 'retry-after': retryAfter });
  expect(gate.status()).toMatchObject({ state: 'limited', untilMs: 1_000_000 + seconds * 1000 });
  pass(seconds * 1000 - 1);
  const error = await refusal();
  expect(error).toMatchObject({ code: 'TOOMANYREQUESTS', status: 429, detail: { upstream: 'docker.io' } });
  expect(error.headers).toEqual({ 'Retry-After': '1' });
  pass(1);
  expect(gate.status()).toEqual({ state: 'available' });
  await enter();
});

test('the rest of a pause is stated in whole seconds, rounded up', async () => {
  const { answer, refusal, pass } = createGate();
  await answer(429, { 'retry-after': '60' });
  expect((await refusal()).headers).toEqual({ 'Retry-After': '60' });
  pass(10_001);
  const error = await refusal();
  expect(error.headers).toEqual({ 'Retry-After': '50' });
  expect(error.retryAfterMs).toBe(49_999);
});

test('after a pause one request goes first, and the others wait for its answer', async () => {
  const { answer, enter, pass, refusal, events } = createGate();
  await answer(429, { 'retry-after': '60' });
  pass(60_000);
  const first = await enter();
  const waiting = [enter(), enter()].map((entry) => entry.catch((error: unknown) => error));
  first.answered({ status: 429, headers: { 'retry-after': '60' } });
  for (const result of await Promise.all(waiting)) expect(result).toBeInstanceOf(Refusal);
  await refusal();
  pass(60_000);
  const second = await enter();
  const others = [enter(), enter()];
  second.answered({ status: 200, headers: {} });
  expect(await Promise.all(others)).toHaveLength(2);
  expect(events).toEqual([
    'closed limited: limits our requests',
    'refused limited',
    'refused limited',
    'refused limited',
    'opened',
  ]);
});

test('each limit in a row that says no time is twice as long, up to ten seconds', async () => {
  const { answer, pass, gate } = createGate();
  const seconds = async (headers = {}): Promise<number> => {
    const sinceMs = 1_000_000 + passedMs;
    await answer(429, headers);
    const lastsMs = (gate.status().untilMs ?? 0) - sinceMs;
    passedMs += lastsMs;
    pass(lastsMs);
    return lastsMs / 1000;
  };
  let passedMs = 0;
  const lasted: number[] = [];
  for (let count = 0; count < 6; count += 1) lasted.push(await seconds());
  expect(lasted).toEqual([1, 2, 4, 8, 10, 10]);
  expect(await seconds({ 'retry-after': '3' })).toBe(3);
  await answer(200);
  expect(await seconds()).toBe(1);
});

test('a request that waits for the first one after a pause can leave, and takes its place when the first one leaves', async () => {
  const { answer, enter, pass, gate } = createGate();
  await answer(429);
  pass(10_000);
  const first = await enter();
  const leaving = new AbortController();
  const left = gate.enter(leaving.signal);
  const staying = enter();
  const reason = new Error('client left');
  leaving.abort(reason);
  await expect(left).rejects.toBe(reason);
  first[Symbol.dispose]();
  const second = await staying;
  const third = enter();
  second.answered({ status: 200, headers: {} });
  await third;
});

test('an answer to a request from before a pause does not lift it', async () => {
  const { enter, refusal, gate } = createGate();
  const [early, limited] = [await enter(), await enter()];
  limited.answered({ status: 429, headers: { 'retry-after': '60' } });
  early.answered({ status: 200, headers: {} });
  expect(await refusal()).toMatchObject({ code: 'TOOMANYREQUESTS' });
  expect(gate.status().state).toBe('limited');
});

test('a shorter pause asked for later does not shorten the one under way', async () => {
  const { enter, refusal } = createGate();
  const [one, other] = [await enter(), await enter()];
  one.answered({ status: 429, headers: { 'retry-after': '60' } });
  other.answered({ status: 429, headers: { 'retry-after': '5' } });
  expect((await refusal()).headers).toEqual({ 'Retry-After': '60' });
});

test('a clock that is set back does not prolong a pause', async () => {
  const { answer, refusal, enter, pass } = createGate();
  await answer(429, { 'retry-after': '60' });
  pass(-900_000);
  expect((await refusal()).headers).toEqual({ 'Retry-After': '60' });
  pass(60_000);
  await enter();
});

test('a time-out breaks the connection at once, and the refusal says why', async () => {
  const { fail, refusal, gate } = createGate();
  await fail(timeout);
  expect(await refusal()).toMatchObject({
    code: 'UNAVAILABLE',
    status: 502,
    message: 'upstream docker.io did not answer in time; it is not asked again before the next probe',
    detail: { upstream: 'docker.io' },
    headers: {},
  });
  expect(gate.status()).toEqual({ state: 'broken', untilMs: 1_005_000, reason: 'did not answer in time' });
});

test.each(['ECONNREFUSED', 'ECONNRESET', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH'])(
  'three %s in a row break the connection, two do not',
  async (code) => {
    const { fail, answer, refusal, enter } = createGate();
    await fail(unreachable(code));
    await fail(unreachable(code));
    await answer(404);
    await fail(unreachable(code));
    await fail(unreachable(code));
    await enter();
    await fail(unreachable(code));
    expect((await refusal()).message).toContain(`cannot be reached (${code}); it is not asked again`);
  },
);

test.each([500, 502, 503, 504])('five answers %i in a row break the connection, four do not', async (status) => {
  const { answer, refusal } = createGate();
  for (let count = 0; count < 4; count += 1) await answer(status);
  await answer(200);
  for (let count = 0; count < 5; count += 1) await answer(status);
  expect((await refusal()).message).toContain(`answered ${status}; it is not asked again`);
});

test.each([200, 206, 301, 401, 403, 404, 416, 501])('any number of answers %i breaks nothing', async (status) => {
  const { answer, events } = createGate();
  for (let count = 0; count < 20; count += 1) await answer(status);
  expect(events).toEqual([]);
});

test('failures that are not the upstream’s break nothing', async () => {
  const { fail, events } = createGate();
  const noCause = unavailable('docker.io', 'sends an encoded body');
  const others = [noCause, new Error('client left'), ...['ERR_FORBIDDEN_ADDRESS', 'EMFILE'].map(unreachable)];
  for (const error of others) for (let count = 0; count < 5; count += 1) await fail(error);
  for (let count = 0; count < 5; count += 1) await fail(unreachable('HPE_HEADER_OVERFLOW'));
  expect(events).toEqual([]);
});

test('after the interval exactly one request goes, and the others are refused until it has ended', async () => {
  const { fail, refusal, enter, pass, events } = createGate();
  await fail(timeout);
  pass(4_999);
  await refusal();
  pass(1);
  const probe = await enter();
  await refusal();
  pass(60_000);
  await refusal();
  probe.failed(unreachable('ECONNREFUSED'));
  expect((await refusal()).message).toContain('ECONNREFUSED');
  pass(5_000);
  (await enter()).answered({ status: 404, headers: {} });
  await Promise.all([enter(), enter()]);
  expect(events.filter((event) => !String(event).startsWith('refused'))).toEqual([
    'closed broken: did not answer in time',
    'opened',
  ]);
});

test('a probe that is answered 500 closes the gate for another interval', async () => {
  const { fail, answer, refusal, enter, pass } = createGate();
  await fail(timeout);
  pass(5_000);
  await answer(500);
  pass(4_999);
  expect((await refusal()).message).toContain('answered 500; it is not asked again before the next probe');
  pass(1);
  await enter();
});

test.each<[string, (probe: Passage) => void]>([
  ['leaves', (probe) => probe[Symbol.dispose]()],
  ['is cancelled', (probe) => probe.failed(new Error('client left'))],
])('a probe whose client %s neither opens nor closes, and the next request is the probe', async (_, leave) => {
  const { fail, refusal, enter, pass, gate } = createGate();
  await fail(timeout);
  pass(5_000);
  leave(await enter());
  expect(gate.status().state).toBe('broken');
  await enter();
  await refusal();
});

test('requests under way when the connection breaks neither prolong it nor are stopped, and an answer ends it', async () => {
  const { fail, enter, pass, gate } = createGate();
  const [late, answered] = [await enter(), await enter()];
  await fail(timeout);
  pass(4_000);
  late.failed(timeout);
  expect(gate.status()).toMatchObject({ state: 'broken', untilMs: 1_005_000 });
  answered.answered({ status: 200, headers: {} });
  expect(gate.status()).toEqual({ state: 'available' });
});

test('a broken connection that answers with a request for a pause is paused', async () => {
  const { fail, enter, refusal, pass, events } = createGate();
  await fail(timeout);
  pass(5_000);
  (await enter()).answered({ status: 429, headers: { 'retry-after': '30' } });
  expect((await refusal()).headers).toEqual({ 'Retry-After': '30' });
  expect(events).toContain('closed limited: limits our requests');
});

test('a refusal of the token service names it', async () => {
  const { answer, fail, refusal, pass, enter } = createGate({ service: 'token service' });
  await answer(429, { 'retry-after': '60' });
  expect((await refusal()).message).toBe(
    'upstream docker.io has a token service that limits our requests; it is not asked again for 60 s',
  );
  pass(60_000);
  (await enter()).answered({ status: 200, headers: {} });
  await fail(timeout);
  expect((await refusal()).message).toBe(
    'upstream docker.io has a token service that did not answer in time; it is not asked again before the next probe',
  );
});
