import { expect, test } from 'vitest';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { damageUnderLoad } from './damage.ts';

// `node bench/damage.ts` does the same with 200 files.
test('thirty stored files that are damaged under load are found, set aside and fetched again; no client gets a wrong body', async () => {
  await using directory = await temporaryDirectory('damage');
  const seed = 30;
  const report = await damageUnderLoad({ count: 30, seed, directory: directory.path });
  expect(report.violations, `seed ${seed}`).toEqual([]);
  expect(report).toMatchObject({ found: 25, fetchedAgain: 30, quarantined: 20 });
  // Clients were there while it happened.
  expect(report.rightBodies).toBeGreaterThan(30);
});
