import { describe, expect, test } from 'vitest';
import type { Digest } from '../../src/oci/digest.ts';
import { decide, freshnessOf, tagRule } from '../../src/upstream/freshness.ts';
import type { Freshness } from '../../src/upstream/upstream.ts';

const record = { digest: 'sha256:0' as Digest, contentType: 'text/x', size: 1, checkedAtMs: 1_000_000 };
const times = { tagTtlMs: 60_000, staleWhileRevalidateMs: 30_000, staleIfErrorMs: 3_600_000 };

function kindAt(ageMs: number, given: Partial<Freshness> = {}, offline = false): string {
  return freshnessOf(record, { now: record.checkedAtMs + ageMs, times: { ...times, ...given }, offline }).kind;
}

describe('the age of a tag', () => {
  test.each([
    [0, 'fresh'],
    [59_999, 'fresh'],
    [60_000, 'revalidating'],
    [89_999, 'revalidating'],
    [90_000, 'stale'],
    [3_659_999, 'stale'],
    [3_660_000, 'expired'],
    [-1, 'stale'],
  ])('%d ms after it was confirmed it is %s', (ageMs, kind) => {
    expect(kindAt(ageMs)).toBe(kind);
  });

  test('without a time to revalidate in, it is asked for as soon as it is no longer fresh', () => {
    expect(kindAt(60_000, { staleWhileRevalidateMs: undefined })).toBe('stale');
  });

  test('a time to revalidate in that is longer than that for errors holds to its end', () => {
    expect(kindAt(99_999, { staleWhileRevalidateMs: 40_000, staleIfErrorMs: 0 })).toBe('revalidating');
    expect(kindAt(100_000, { staleWhileRevalidateMs: 40_000, staleIfErrorMs: 0 })).toBe('expired');
  });

  test('offline nothing is too old', () => {
    expect(kindAt(1e12, {}, true)).toBe('fresh');
    expect(kindAt(-1, {}, true)).toBe('fresh');
  });

  test('a stale one says its age in whole seconds', () => {
    expect(freshnessOf(record, { now: record.checkedAtMs + 91_999, times, offline: false })).toEqual({
      kind: 'stale',
      ageSeconds: 91,
    });
  });
});

describe('a rule for tags', () => {
  const matches = (match: string, tag: string): boolean =>
    tagRule({ match, repositories: [], ...times }).matches('library/app', tag);

  test.each([
    ['latest', 'latest', true],
    ['latest', 'latest2', false],
    ['latest', 'Latest', false],
    ['*', 'anything', true],
    ['v*.*.*', 'v1.2.3', true],
    ['v*.*.*', 'v1.2.3-rc.1', true],
    ['v*.*.*', 'v1.2', false],
    ['v*.*.*', 'xv1.2.3', false],
    ['*-alpine', '3.20-alpine', true],
    ['*-alpine', '3.20-alpine-slim', false],
    ['a*a', 'a', false],
    ['a*a', 'aa', true],
    ['a*b*a', 'aba', true],
    ['a*b*a', 'aa', false],
    ['*.*', '...', true],
    ['1.2', '1x2', false],
    ['**', '', true],
  ])('"%s" on the tag "%s": %s', (match, tag, expected) => {
    expect(matches(match, tag)).toBe(expected);
  });

  test('can be limited to repositories', () => {
    const rule = tagRule({ match: 'v*', repositories: ['library/**', 'team/*'], ...times });
    expect(rule.matches('library/app', 'v1')).toBe(true);
    expect(rule.matches('team/app', 'v1')).toBe(true);
    expect(rule.matches('team/app/deep', 'v1')).toBe(false);
    expect(rule.matches('library/app', 'w1')).toBe(false);
  });

  test('decides where it is the first that matches; where none does, the upstream does', () => {
    const first = tagRule({ match: 'v*', repositories: ['team/*'], ...times, tagTtlMs: 1 });
    const second = tagRule({ match: 'v*', repositories: [], ...times, tagTtlMs: 2 });
    const freshness: Freshness = { ...times, negativeTtlMs: 0, tags: [first, second] };
    const decided = (repository: string, tag: string) => {
      const { position, times: found } = decide(freshness, { repository, tag });
      return [position, found.tagTtlMs];
    };
    expect(decided('team/app', 'v1')).toEqual([0, 1]);
    expect(decided('library/app', 'v1')).toEqual([1, 2]);
    expect(decided('library/app', 'latest')).toEqual([undefined, 60_000]);
    expect(decide({ ...times, negativeTtlMs: 0 }, { repository: 'a', tag: 'b' }).rule).toBeUndefined();
  });
});
