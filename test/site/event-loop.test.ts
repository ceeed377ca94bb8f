import pino from 'pino';
import { expect, test } from 'vitest';
import { EventLoop } from '../../src/site/event-loop.ts';

function holdTheLoop(ms: number): void {
  const untilMs = performance.now() + ms;
  while (performance.now() < untilMs);
}

test('what holds the event loop is counted and logged with where it was', async () => {
  const lines: { ms?: number; stack?: string[]; msg: string }[] = [];
  const log = pino({ level: 'warn' }, { write: (line) => void lines.push(JSON.parse(line) as (typeof lines)[0]) });
  await using loop = new EventLoop({ log });
  loop.start();
  const here = /^holdTheLoop test\/site\/event-loop\.test\.ts:\d+$/;
  const found = () => lines.find(({ stack = [] }) => stack.some((frame) => here.test(frame)));
  // The thread begins with the first stall; where it takes long, the lines of the next minute have it.
  await expect
    .poll(
      () => {
        holdTheLoop(400);
        return found();
      },
      { interval: 500, timeout: 150_000 },
    )
    .toMatchObject({ msg: 'the event loop was held' });
  expect(found()!.ms).toBeGreaterThan(200);
  expect(loop.reading().stalls).toBeGreaterThan(0);
  expect(loop.reading().maxMs).toBeGreaterThan(200);
});
