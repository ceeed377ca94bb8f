import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { scrubIfDue } from '../../src/site/hosted-scrub.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

const dayMs = 86_400_000;
const signal = new AbortController().signal;

test('hosted content is read again when the last time is long enough ago, and again where that has failed', async () => {
  await using directory = await temporaryDirectory('scrub-schedule');
  const note = join(directory.path, 'hosted', 'scrubbed');
  const lines: string[] = [];
  const log = pino({}, { write: (line) => void lines.push(line) });
  let [nowMs, reads, isFailing] = [Date.parse('2026-11-30T12:00:00Z'), 0, false];
  const scrub = {
    run() {
      reads += 1;
      return isFailing
        ? Promise.reject(new Error('too many open files'))
        : Promise.resolve({ blobs: 1, bytes: 2, damaged: 0 });
    },
  };
  const look = (everyMs = 30 * dayMs) => scrubIfDue(scrub, { log, signal, note, everyMs, now: () => nowMs });

  await look();
  expect(reads, 'what has just been pushed').toBe(0);
  expect(await readFile(note, 'utf8')).toBe('2026-11-30T12:00:00.000Z');
  nowMs += 30 * dayMs - 1;
  await look();
  expect(reads, 'too early').toBe(0);
  nowMs += 1;
  await look(0);
  expect(reads, 'switched off').toBe(0);
  await look();
  expect(reads).toBe(1);
  expect(lines.join('')).toContain('hosted content scrubbed');
  await look();
  expect(reads, 'just done').toBe(1);
  nowMs += 30 * dayMs;
  isFailing = true;
  await look();
  expect(lines.join('')).toContain('too many open files');
  isFailing = false;
  await look();
  expect(reads, 'done again').toBe(3);
});
