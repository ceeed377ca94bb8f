import { describe, expect, test, vi } from 'vitest';
import { Answers } from '../../src/coordination/answers.ts';
import { Budget } from '../../src/coordination/budget.ts';
import { RedisClock } from '../../src/coordination/clock.ts';
import type { SharedTag } from '../../src/coordination/coordinator.ts';
import { Seal } from '../../src/coordination/seal.ts';
import { fakeLink, lost, type Run } from './fake-link.ts';
import { digest, secret } from './support.ts';

const signal = new AbortController().signal;
const key = { repository: 'docker.io/library/app', tag: '1', variant: 'v', access: 'a' };
const name = '{a:docker.io/library/app:1:v}';
const context = 'tag a docker.io/library/app:1 v';
const seal = new Seal(secret);

/** The answers of the replica `me`, whose clock stands where Redis's does. */
function answersWith(answer: (run: Run, count: number) => unknown) {
  const { link, runs } = fakeLink(answer);
  const nowMs = 1_000_000;
  const clock = Object.defineProperty(new RedisClock(), 'nowMs', { value: nowMs });
  return { answers: new Answers({ link, seal, clock, self: () => 'me' }), runs, nowMs };
}

const tag: SharedTag = { kind: 'manifest', digest: digest(1), contentType: 'x/y', size: 3, ageMs: 0 };

describe('what a replica has learned about a tag', () => {
  const known = async (ageMs: number, maxAgeMs: number) => {
    const { answers, nowMs } = answersWith(() => ['known', seal.close(context, { ...tag, atMs: nowMs - ageMs })]);
    return await answers.claimTag(key, { maxAgeMs, signal });
  };

  test('is known to the others, with its age', async () => {
    expect(await known(400, 1_000)).toEqual({ kind: 'known', tag: { ...tag, ageMs: 400 } });
    // Of a replica whose clock is a little ahead.
    expect(await known(-2_000, 1_000)).toEqual({ kind: 'known', tag });
    expect(await known(1_999, 1_000)).toEqual({ kind: 'known', tag: { ...tag, ageMs: 1_999 } });
  });

  test('is not believed where it is too old, from the future, or of a stranger', async () => {
    expect(await known(2_000, 1_000)).toEqual({ kind: 'alone' });
    expect(await known(-2_001, 1_000)).toEqual({ kind: 'alone' });
    const { answers } = answersWith(() => ['known', 'of a stranger']);
    expect(await answers.claimTag(key, { maxAgeMs: 1_000, signal })).toEqual({ kind: 'alone' });
    const other = answersWith(() => ['known', seal.close('tag of another', { ...tag, atMs: 1_000_000 })]);
    expect(await other.answers.claimTag(key, { maxAgeMs: 1_000, signal })).toEqual({ kind: 'alone' });
  });

  test('is waited for while another one asks', async () => {
    const { answers, runs } = answersWith((_, count) => (count < 4 ? ['wait'] : ['ours']));
    expect(await answers.claimTag(key, { maxAgeMs: 1_000, signal })).toEqual({ kind: 'ours' });
    expect(runs).toHaveLength(4);
    expect(runs[0]).toEqual({
      script: 'claim-tag',
      keys: [`tag:${name}`, `check:${name}`],
      values: ['me', 1_000, 5_000],
    });
  });

  test('is waited for in steps that grow to 120 ms, for five seconds at most', async () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    try {
      const times: number[] = [];
      const { answers } = answersWith(() => {
        times.push(performance.now());
        vi.advanceTimersByTime(times.length < 8 ? 100 : 2_500);
        return ['wait'];
      });
      const began = Date.now();
      expect(await answers.claimTag(key, { maxAgeMs: 1_000, signal })).toEqual({ kind: 'alone' });
      // 15, 30, 60, then 120 each time.
      expect(Date.now() - began).toBeGreaterThanOrEqual(15 + 30 + 60 + 120 * 6 - 20);
      expect(times.length).toBe(9);
    } finally {
      vi.useRealTimers();
    }
  });

  test('is not waited for by a caller that leaves', async () => {
    const left = new AbortController();
    const { answers } = answersWith(() => {
      setImmediate(() => left.abort(new Error('left')));
      return ['wait'];
    });
    await expect(answers.claimTag(key, { maxAgeMs: 1_000, signal: left.signal })).rejects.toThrow();
  });

  test('is recorded sealed with its time, for a millisecond at least, and given back', async () => {
    const { answers, runs, nowMs } = answersWith(() => 1);
    await answers.recordTag(key, { ...tag, ageMs: 10.4 }, { forMs: 0 });
    await answers.recordTag(key, tag, { forMs: 500 });
    await answers.leaveTag(key);
    for (const { script, keys } of runs) {
      expect([script, keys]).toEqual(['record-tag', [`tag:${name}`, `check:${name}`]]);
    }
    expect(runs).toHaveLength(3);
    const [self, sealed, atMs, forMs] = runs[0]!.values;
    expect([self, atMs, forMs]).toEqual(['me', nowMs - 10, 1]);
    expect(seal.open(context, sealed)).toEqual({ ...tag, ageMs: 10.4, atMs: nowMs - 10 });
    expect(runs[1]!.values[3]).toBe(500);
    expect(runs[2]!.values).toEqual(['me', '', 0, 0]);
  });
});

describe('a 404', () => {
  const answer = { code: 'MANIFEST_UNKNOWN', message: 'no' };
  const read = async (times: { atMs: number; untilMs: number }, of = 'missing x') => {
    const { answers, runs } = answersWith(() => seal.close(of, { ...answer, ...times }));
    const found = await answers.missing('x');
    expect(runs).toEqual([{ script: 'value', keys: ['missing:{x}'], values: [''] }]);
    return found;
  };

  test('is known until its time is over, and not from the future or for something else', async () => {
    expect(await read({ atMs: 1_000_000, untilMs: 1_000_001 })).toEqual(answer);
    expect(await read({ atMs: 1_002_000, untilMs: 2_000_000 })).toEqual(answer);
    expect(await read({ atMs: 1_002_001, untilMs: 2_000_000 })).toBeUndefined();
    expect(await read({ atMs: 1, untilMs: 1_000_000 })).toBeUndefined();
    expect(await read({ atMs: 1, untilMs: 2_000_000 }, 'missing y')).toBeUndefined();
    expect(await answersWith(() => null).answers.missing('x')).toBeUndefined();
  });

  test('is recorded sealed, for a millisecond at least', async () => {
    const { answers, runs } = answersWith(() => 'OK');
    await answers.recordMissing('x', { ...answer, extra: 1 } as typeof answer, { forMs: 0 });
    await answers.recordMissing('x', answer, { forMs: 700 });
    const [sealed, forMs] = runs[0]!.values;
    for (const { script, keys } of runs) expect([script, keys]).toEqual(['value', ['missing:{x}']]);
    expect(runs).toHaveLength(2);
    expect(seal.open('missing x', sealed)).toEqual({ ...answer, atMs: 1_000_000, untilMs: 1_000_000 });
    expect([forMs, runs[1]!.values[1]]).toEqual([1, 700]);
    expect(seal.open('missing x', runs[1]!.values[0])).toMatchObject({ untilMs: 1_000_700 });
  });
});

test('Redis tells the time, half of the question’s way ago', () => {
  const clock = new RedisClock();
  expect(() => clock.nowMs).toThrow('Redis has not said what time it is');
  vi.useFakeTimers({ toFake: ['performance'] });
  try {
    const askedMs = performance.now();
    vi.advanceTimersByTime(100);
    clock.hear(5_000, askedMs);
    expect(clock.nowMs).toBe(5_050);
    vi.advanceTimersByTime(10.6);
    expect(clock.nowMs).toBe(Math.round(performance.now() - askedMs + 4_950));
  } finally {
    vi.useRealTimers();
  }
});

describe('a connection out of those of all replicas', () => {
  test('is waited for, renewed while it is used, and given back', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    try {
      const { link, runs } = fakeLink((_, count) => (count < 3 ? 0 : count === 4 ? lost() : 1));
      const place = await new Budget(link).enter('docker.io', { max: 5, signal });
      expect(runs).toHaveLength(3);
      const [id, ...rest] = runs[0]!.values;
      expect(runs[0]).toEqual({ script: 'place', keys: ['budget:{docker.io}'], values: [id, 5, 15_000] });
      expect(rest).toEqual([5, 15_000]);
      expect(new Set(runs.map(({ values }) => values[0])).size).toBe(1);
      vi.advanceTimersByTime(4_999);
      expect(runs).toHaveLength(3);
      vi.advanceTimersByTime(1);
      vi.advanceTimersByTime(5_000);
      expect(runs.slice(3)).toEqual([runs[0], runs[0]]);
      await place[Symbol.asyncDispose]();
      vi.advanceTimersByTime(20_000);
      expect(runs.slice(5)).toEqual([{ ...runs[0], values: [id, 5, 0] }]);
    } finally {
      vi.useRealTimers();
    }
  });

  test('is asked for again after 25 to 75 ms, by chance', async () => {
    using chance = vi.spyOn(Math, 'random');
    for (const [drawn, waitMs] of [
      [0, 25],
      [1, 75],
    ] as const) {
      chance.mockReturnValue(drawn);
      const times: number[] = [];
      const { link } = fakeLink((_, count) => {
        times.push(performance.now());
        return count < 2 ? 0 : 1;
      });
      await using _place = await new Budget(link).enter('docker.io', { max: 5, signal });
      // A timer of Node may be a millisecond early.
      expect(times[1]! - times[0]!).toBeGreaterThanOrEqual(waitMs - 2);
    }
  });

  test('is waited for two seconds; then the request goes without', async () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    try {
      const { link, runs } = fakeLink(() => {
        vi.advanceTimersByTime(1_000);
        return 0;
      });
      await using place = await new Budget(link).enter('docker.io', { max: 5, signal });
      expect(place).toBeDefined();
      expect(runs).toHaveLength(2);
    } finally {
      vi.useRealTimers();
    }
  });

  test('is not waited for by a caller that leaves', async () => {
    const { link } = fakeLink(() => 0);
    const left = AbortSignal.abort(new Error('left'));
    await expect(new Budget(link).enter('docker.io', { max: 5, signal: left })).rejects.toThrow();
  });
});
