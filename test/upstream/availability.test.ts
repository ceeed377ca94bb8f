import { expect, test } from 'vitest';
import { startRegistry } from '../support/registry.ts';
import { accept, failureOf, never, unknownDigest, upstreamAt } from './support.ts';

test('an upstream that cannot be reached is available for no repository, also for those that have not been asked for', async () => {
  await using registry = await startRegistry();
  using upstream = upstreamAt(registry.origin);
  const pull = (repository: string) => upstream.client.getManifest(repository, 'v1', { accept, signal: never() });
  expect(upstream.isAvailableFor('library/other')).toBe(true);
  await registry.suspend();
  for (const repository of ['library/a', 'library/b', 'library/c', 'library/d']) await failureOf(pull(repository));
  expect(upstream.isAvailableFor('library/other')).toBe(false);
});

test('a repository that is limited is not available, and others are', async () => {
  await using registry = await startRegistry();
  registry.addImage('library/other', 'v1');
  using upstream = upstreamAt(registry.origin);
  const limited = { kind: 'status', status: 429, headers: { 'Retry-After': '60' } } as const;
  registry.fault(/library\/a\/blobs/, limited);
  await failureOf(upstream.client.headBlob('library/a', unknownDigest, { signal: never() }));
  expect(upstream.isAvailableFor('library/a')).toBe(false);
  expect(upstream.isAvailableFor('library/other')).toBe(true);
});
