import { expect, test } from 'vitest';
import { readRateLimit } from '../../src/upstream/rate-limit.ts';
import { startRegistry } from '../support/registry.ts';
import { accept, bytesOf, never, upstreamAt } from './support.ts';

test.each<[string, Record<string, string>, object | undefined]>([
  [
    'as Docker Hub sends it',
    { 'ratelimit-limit': '100;w=21600', 'ratelimit-remaining': '76;w=21600' },
    { remaining: 76, limit: 100, windowSeconds: 21_600 },
  ],
  ['with spaces', { 'ratelimit-remaining': ' 0 ; w=60 ' }, { remaining: 0, limit: undefined, windowSeconds: 60 }],
  [
    'with a window that the limit alone tells',
    { 'ratelimit-limit': '100;w=60', 'ratelimit-remaining': '5' },
    { remaining: 5, limit: 100, windowSeconds: 60 },
  ],
  ['without a window', { 'ratelimit-remaining': '5' }, { remaining: 5, limit: undefined, windowSeconds: undefined }],
  [
    'with a limit that cannot be read',
    { 'ratelimit-limit': 'many', 'ratelimit-remaining': '5;w=1' },
    { remaining: 5, limit: undefined, windowSeconds: 1 },
  ],
  ['absent', {}, undefined],
  ['the limit alone', { 'ratelimit-limit': '100;w=21600' }, undefined],
  ['negative', { 'ratelimit-remaining': '-1;w=21600' }, undefined],
  ['empty', { 'ratelimit-remaining': '' }, undefined],
  ['too long to be a number', { 'ratelimit-remaining': '9'.repeat(40) }, undefined],
  ['a word', { 'ratelimit-remaining': 'unlimited' }, undefined],
])('the pull budget is read from the headers: %s', (_, headers, expected) => {
  expect(readRateLimit(headers, 42)).toEqual(expected && { ...expected, seenAtMs: 42 });
});

const budget = (remaining: number) => ({
  'ratelimit-limit': '100;w=21600',
  'ratelimit-remaining': `${remaining};w=21600`,
});

test('an upstream is spared from its floor down, until the window is over', async () => {
  let nowMs = 0;
  await using registry = await startRegistry();
  registry.addImage('library/tiny', 'v1');
  using upstream = upstreamAt(registry.origin, { rateLimitFloor: 20, now: () => nowMs });
  const ask = () => upstream.client.headManifest('library/tiny', 'v1', { accept, signal: never() });
  await ask();
  expect(upstream.isSparing).toBe(false);
  expect(upstream.status().rateLimit).toBeUndefined();
  for (const [remaining, sparing] of [
    [21, false],
    [20, true],
    [0, true],
  ] as const) {
    registry.fault(undefined, { kind: 'headers', headers: budget(remaining) }, { times: 1 });
    await ask();
    expect(upstream.isSparing).toBe(sparing);
    expect(upstream.status().rateLimit).toEqual({ remaining, limit: 100, windowSeconds: 21_600, seenAtMs: 0 });
  }
  await ask();
  expect(upstream.status().rateLimit?.remaining).toBe(0);
  nowMs = 21_600_000;
  expect(upstream.isSparing).toBe(false);
  expect(upstream.status().rateLimit).toBeUndefined();
});

test('without a floor no upstream is spared', async () => {
  await using registry = await startRegistry({ headers: budget(0) });
  registry.addImage('library/tiny', 'v1');
  using upstream = upstreamAt(registry.origin);
  await upstream.client.headManifest('library/tiny', 'v1', { accept, signal: never() });
  expect(upstream.isSparing).toBe(false);
});

test('refusals and redirects of the registry tell the budget, redirect targets do not', async () => {
  await using registry = await startRegistry();
  const blob = registry.addBlob(Buffer.from('content'));
  using upstream = upstreamAt(registry.origin);
  registry.fault(undefined, { kind: 'headers', headers: budget(30) });
  registry.fault(undefined, { kind: 'redirect' });
  registry.cdn.place(undefined, { kind: 'headers', headers: budget(99) });
  const answer = await upstream.client.endpoints[0]!.openBlob('library/tiny', blob.digest, { signal: never() });
  expect((await bytesOf(answer)).toString()).toBe('content');
  expect(registry.cdn.requests).toHaveLength(1);
  expect(upstream.status().rateLimit?.remaining).toBe(30);
  registry.clearFaults();
  registry.fault(undefined, { kind: 'status', status: 429, headers: budget(0) });
  await upstream.client.headBlob('library/tiny', blob.digest, { signal: never() }).catch(() => undefined);
  expect(upstream.status().rateLimit?.remaining).toBe(0);
});
