import { expect, test } from 'vitest';
import { Renewed } from '../../src/upstream/credentials/renewed.ts';

test.each([Number.POSITIVE_INFINITY, 1e300])(
  'an expiry of %s is a date that can be shown, and the credential is renewed',
  async (expiresAtMs) => {
    let [nowMs, asked] = [0, 0];
    const credential = { kind: 'refresh-token', token: 'a' } as const;
    const obtain = () => {
      asked += 1;
      return Promise.resolve({ credential, expiresAtMs });
    };
    const renewed = new Renewed({ obtain, now: () => nowMs });
    const { signal } = new AbortController();
    await renewed.get({ signal });
    expect(new Date(renewed.status().expiresAtMs!).getTime()).toBe(30 * 86_400_000);
    nowMs = 31 * 86_400_000;
    await renewed.get({ signal });
    expect(asked).toBe(2);
  },
);
