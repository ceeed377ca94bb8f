import { expect, test } from 'vitest';
import { EventQueue } from '../../../../src/operations/owner/fetch/event-queue.ts';

test('what has not been read is replaced by what comes under the same key, in the place it has', async () => {
  const queue = new EventQueue<string>();
  queue.push('begin');
  queue.push('10 %', 'progress');
  queue.push('other');
  queue.push('20 %', 'progress');
  queue.end();
  expect(await Array.fromAsync(queue)).toEqual(['begin', '20 %', 'other']);
});

test('a reader that waits is woken, and is thrown the error after the last event', async () => {
  const queue = new EventQueue<number>();
  const reading = queue[Symbol.asyncIterator]();
  const first = reading.next();
  queue.push(1);
  expect(await first).toEqual({ done: false, value: 1 });
  const second = reading.next();
  queue.push(2);
  queue.end({ error: new Error('over') });
  queue.end();
  expect(await second).toEqual({ done: false, value: 2 });
  await expect(reading.next()).rejects.toThrow('over');
});
