import { expect, test } from 'vitest';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { killPushes } from './kill/hosted.ts';

// `node bench/kill.ts --hosted 200` does the same ten times as often.
test('what was answered to pushes and deletes is there after each of twenty kills, and nothing is half there', async () => {
  await using directory = await temporaryDirectory('kill-hosted');
  const seed = 16;
  const report = await killPushes({ count: 20, seed, directory: directory.path });
  expect(report.violations, `seed ${seed}`).toEqual([]);
  // The kills have met something.
  expect(report.cut).toBeGreaterThan(20);
  expect(report.answered).toBeGreaterThan(200);
});
