import { expect, test } from 'vitest';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { describeWith } from '../support/tools.ts';
import { killFleetPushes, killPushes } from './kill/hosted.ts';

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

describeWith(['redis-server'], 'two replicas, of which one keeps the hosted repositories', () => {
  // `node bench/kill.ts --hosted-fleet 200` does the same twenty times as often.
  test('lose nothing that was answered while either of them is killed', async () => {
    await using directory = await temporaryDirectory('kill-fleet');
    const seed = 17;
    const report = await killFleetPushes({ count: 10, seed, directory: directory.path });
    expect(report.violations, `seed ${seed}`).toEqual([]);
    expect(report.cut).toBeGreaterThan(5);
    expect(report.answered).toBeGreaterThan(100);
  });
});
