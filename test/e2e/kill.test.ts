import { expect, test } from 'vitest';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { killAgainAndAgain } from './kill/run.ts';

// `node bench/kill.ts 200` does the same ten times as often.
test('a mirror that is killed twenty times under load never keeps or gives a wrong byte', async () => {
  await using directory = await temporaryDirectory('kill');
  const seed = 20;
  const report = await killAgainAndAgain({ count: 20, seed, directory: directory.path });
  expect(report.violations, `seed ${seed}`).toEqual([]);
  expect(report.kills.underLoad + report.kills.atStart).toBe(20);
  // The kills have met something.
  expect(report.kills.underLoad).toBeGreaterThan(10);
  expect(report.rightBodies).toBeGreaterThan(20);
  expect(report.lostAnswers).toBeGreaterThan(5);
  expect(report.mostPartials).toBeGreaterThan(0);
  expect(report.evictedBlobs).toBeGreaterThan(10);
  expect(report.alone.served).toBeGreaterThan(0);
});
