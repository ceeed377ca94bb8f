import { expect, test } from 'vitest';
import { compareWithModel } from './model.ts';

/** How many requests are made: more by hand, `MILLPOND_ACCESS_REQUESTS=100000 npm exec vitest run test/access/model`. */
const requests = Number(process.env['MILLPOND_ACCESS_REQUESTS'] ?? '1500');
const seed = Number(process.env['MILLPOND_FUZZ_SEED'] ?? '') || 20_261_130;

test(
  'no one gets what the policies do not give it, in whatever way it asks and while they change',
  async () => {
    expect(await compareWithModel({ requests, seed })).toBeGreaterThanOrEqual(requests);
  },
  Math.max(60_000, requests * 40),
);
