import { expect, test } from 'vitest';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { killFetches } from './kill/fetch.ts';

// `node bench/kill.ts --fetch 50` does the same ten times as often.
test('a fetch that is killed at five moments leaves nothing wrong or partial to be seen, and the next one completes it', async () => {
  await using directory = await temporaryDirectory('kill-fetch');
  const seed = 5;
  const report = await killFetches({ count: 5, seed, directory: directory.path });
  expect(report.violations, `seed ${seed}`).toEqual([]);
  // The kills have met something.
  expect(report.killed).toBeGreaterThan(0);
  expect(report.mostPartials).toBeGreaterThan(0);
  expect(report.servedAtEnd).toBe(report.tags);
});
