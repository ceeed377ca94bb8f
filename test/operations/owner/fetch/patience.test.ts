import { describe, expect, test } from 'vitest';
import { RegistryError } from '../../../../src/oci/error.ts';
import { withPatience } from '../../../../src/operations/owner/fetch/patience.ts';
import { Refusal } from '../../../../src/upstream/passage.ts';

const unavailable = new RegistryError('bad-status', 'answered 503');
const failures = (length: number) => Array.from({ length }, () => unavailable);
const limited = (seconds: number) =>
  new RegistryError('limited', 'limits our requests', { headers: { 'Retry-After': String(seconds) } });
const closed = (state: 'limited' | 'broken', retryAfterMs: number) =>
  new Refusal(state, 'left alone', { upstream: 'reg.example', retryAfterMs });

/** Work that throws these one after the other and is then done; @returns the pauses in between, and how it ended */
async function pauses(errors: readonly unknown[], options: { hasMoved?: () => boolean; longestPauseMs?: number } = {}) {
  const left = [...errors];
  const waited: number[] = [];
  const ended = await withPatience(
    () => (left.length > 0 ? Promise.reject(left.shift() as Error) : Promise.resolve('done')),
    {
      signal: new AbortController().signal,
      longestPauseMs: 60_000,
      onPause: ({ forMs }) => waited.push(forMs),
      wait: () => Promise.resolve(),
      ...options,
    },
  ).catch(String);
  return [ended, ...waited];
}

describe('work that can wait', () => {
  test('is tried again after longer and longer pauses, five times', async () => {
    expect(await pauses(failures(5))).toEqual(['done', 1000, 2000, 4000, 8000, 16_000]);
    expect((await pauses(failures(6)))[0]).toBe('RegistryError: answered 503');
  });

  test('goes on as long as each try brings something', async () => {
    expect(await pauses(failures(50), { hasMoved: () => true })).toEqual(['done', ...Array(50).fill(1000)]);
  });

  test('waits as long as it is asked to, in all no longer than it may', async () => {
    expect(await pauses([limited(20), closed('limited', 15_000), limited(20)])).toEqual([
      'done',
      20_000,
      15_000,
      20_000,
    ]);
    expect(await pauses([limited(20), limited(41)])).toEqual(['RegistryError: limits our requests', 20_000]);
  });

  test('does not ask what is known not to answer before its time', async () => {
    expect(await pauses([closed('broken', 5000), closed('broken', 100)])).toEqual(['done', 5000, 2000]);
  });

  test('ends at once with a definite answer, and soon with wrong bytes', async () => {
    const unknown = new RegistryError('not-found', 'no such manifest');
    expect(await pauses([unavailable, unknown])).toEqual(['RegistryError: no such manifest', 1000]);
    expect(await pauses([new TypeError('a bug')])).toEqual(['TypeError: a bug']);
    const wrong = new RegistryError('wrong-bytes', 'other bytes');
    expect(await pauses([wrong, wrong])).toEqual(['RegistryError: other bytes', 1000]);
  });

  test('is left alone by who has gone', async () => {
    const gone = new AbortController();
    const working = withPatience(
      () => {
        gone.abort(new Error('interrupted'));
        return Promise.reject(unavailable);
      },
      { signal: gone.signal, longestPauseMs: 0 },
    );
    await expect(working).rejects.toThrow('interrupted');
  });
});
