import { expect, test } from 'vitest';
import { compareWithModel } from './model.ts';

/** How many requests are made: more by hand, `MILLPOND_ACCESS_REQUESTS=100000 npm exec vitest run test/access/model`. */
const requests = Number(process.env['MILLPOND_ACCESS_REQUESTS'] ?? '1500');
const seed = Number(process.env['MILLPOND_FUZZ_SEED'] ?? '') || 20_261_130;

test(
  'no caller gets what the policies do not give it, however it asks and while they change',
  async () => {
    expect(await compareWithModel({ requests, seed })).toBeGreaterThanOrEqual(requests);
  },
  Math.max(120_000, requests * 40),
);

test(
  'nor from a replica that could have it from another one',
  async () => {
    const some = Math.ceil(requests / 3);
    expect(await compareWithModel({ requests: some, seed, isFleet: true })).toBeGreaterThanOrEqual(some);
  },
  Math.max(120_000, requests * 40),
);
