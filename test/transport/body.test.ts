import { Readable } from 'node:stream';
import { afterEach, expect, test, vi } from 'vitest';
import { IdleTimeoutError, transferBody } from '../../src/transport/body.ts';

const idleMs = 1_500;

function bodyOf(chunks: readonly string[]) {
  const stream = new Readable({ read: () => undefined });
  for (const chunk of chunks) stream.push(chunk);
  const body = transferBody(
    { stream, isComplete: () => true },
    {
      idleMs,
      expectedBytes: undefined,
      translate: (error) => error,
    },
  );
  return { stream, bytes: body[Symbol.asyncIterator]() };
}

afterEach(() => {
  vi.useRealTimers();
});

test('a body is given up when no byte comes for as long as it may be idle', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  const { bytes } = bodyOf(['first']);
  await bytes.next();
  const next = bytes.next().catch((error: unknown) => error);
  vi.advanceTimersByTime(idleMs - 1);
  expect(await Promise.race([next, Promise.resolve('still waiting')])).toBe('still waiting');
  vi.advanceTimersByTime(1);
  expect(await next).toBeInstanceOf(IdleTimeoutError);
});

test('a body is not given up where a byte has come while this process was held up', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  const { stream, bytes } = bodyOf([]);
  const next = bytes.next();
  // What waits to be read is read after the timers that are due.
  setImmediate(() => stream.push('late'));
  vi.advanceTimersByTime(idleMs);
  expect(String((await next).value)).toBe('late');
  const rest = bytes.next().catch((error: unknown) => error);
  await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
  expect(stream.destroyed).toBe(false);
  vi.advanceTimersByTime(idleMs);
  expect(await rest).toBeInstanceOf(IdleTimeoutError);
});

test('a body is never given up because its reader is slow', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  const { stream, bytes } = bodyOf(['first', 'second']);
  await bytes.next();
  vi.advanceTimersByTime(10 * idleMs);
  expect(stream.destroyed).toBe(false);
  expect(String((await bytes.next()).value)).toBe('second');
  const last = bytes.next();
  // Its time starts over with each wait.
  vi.advanceTimersByTime(idleMs - 1);
  stream.push(null);
  expect((await last).done).toBe(true);
});
