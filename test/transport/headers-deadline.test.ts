import { EventEmitter } from 'node:events';
import type { ClientRequest } from 'node:http';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { ExchangeTimeoutError, HeadersDeadline } from '../../src/transport/headers-deadline.ts';

const headersMs = 1_500;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
});

afterEach(() => {
  vi.useRealTimers();
});

/** A request that is watched, and what it was ended with. */
function watched(deadline: HeadersDeadline) {
  const ended: unknown[] = [];
  const request = Object.assign(new EventEmitter(), { destroy: (error: unknown) => void ended.push(error) });
  deadline.watch(request as unknown as ClientRequest);
  return { request, ended };
}

/** Everything that has arrived has been read. */
const afterReading = () =>
  new Promise<void>((resolve) => setImmediate(() => setImmediate(() => setImmediate(resolve))));

test('a request without headers in time is ended', async () => {
  using deadline = new HeadersDeadline({ connectMs: 1_000, headersMs });
  const { ended } = watched(deadline);
  vi.advanceTimersByTime(headersMs - 1);
  await afterReading();
  expect(ended).toEqual([]);
  vi.advanceTimersByTime(1);
  await afterReading();
  expect(ended).toEqual([new ExchangeTimeoutError(`no headers within ${headersMs} ms`)]);
});

test('a request whose headers have come while this process was held up is not ended', async () => {
  using deadline = new HeadersDeadline({ connectMs: 1_000, headersMs });
  const { ended } = watched(deadline);
  // What waits to be read is read after the timers that are due.
  setImmediate(() => deadline.pause());
  vi.advanceTimersByTime(headersMs);
  await afterReading();
  expect(ended).toEqual([]);
});

test('a request is not ended where another sign of life has come meanwhile', async () => {
  using deadline = new HeadersDeadline({ connectMs: 1_000, headersMs, isProlonged: true });
  const { request, ended } = watched(deadline);
  setImmediate(() => request.emit('information'));
  vi.advanceTimersByTime(headersMs);
  await afterReading();
  expect(ended).toEqual([]);
  vi.advanceTimersByTime(headersMs);
  await afterReading();
  expect(ended).toHaveLength(1);
});
