import { expect, test } from 'vitest';
import { createUpstream } from '../../src/upstream/create-upstream.ts';
import { lazyUpstream } from '../../src/upstream/lazy-upstream.ts';
import { startRegistry } from '../support/registry.ts';
import { accept, never } from './support.ts';

const options = {
  name: 'r.example',
  urls: ['http://127.0.0.1:9', 'http://127.0.0.1:9/v2/team'],
  aliases: ['alias.example'],
  freshness: { tagTtlMs: 1, staleIfErrorMs: 2, negativeTtlMs: 3 },
  repositories: { deny: ['secret/**'] },
  connectionsPerBlob: 4,
  maxConnections: 2,
};

test('an upstream that was never asked for anything looks like one that is made', () => {
  using lazy = lazyUpstream(options);
  using made = createUpstream(options);
  const { name, aliases, hosts, freshness, maxConnections, connectionsPerBlob, answerMs } = made;
  expect(lazy).toMatchObject({ name, aliases, hosts, freshness, maxConnections, connectionsPerBlob, answerMs });
  expect(lazy.status()).toEqual(made.status());
  expect([lazy.isAvailable, lazy.isSparing]).toEqual([made.isAvailable, made.isSparing]);
  expect(['library/app', 'secret/app'].map((repository) => lazy.allows(repository))).toEqual([true, false]);
});

test('a pause counts from when it is asked for', () => {
  using lazy = lazyUpstream(options);
  for (const { url } of lazy.status().endpoints) lazy.pause({ url, service: 'registry', forMs: 60_000 });
  expect(lazy.isAvailable).toBe(false);
  expect(lazy.status().endpoints.map(({ state }) => state)).toEqual(['limited', 'limited']);
});

test('a certificate that cannot be used is refused at once', () => {
  expect(() => lazyUpstream({ ...options, tls: { cert: '-----BEGIN CERTIFICATE-----\nnonsense' } })).toThrow();
});

test('an upstream that has been asked for something tells what it has learned', async () => {
  await using registry = await startRegistry({
    headers: { 'ratelimit-limit': '9;w=60', 'ratelimit-remaining': '1;w=60' },
  });
  registry.addImage('library/tiny', 'v1');
  const credentials = { kind: 'inline', username: 'u', password: 'p' } as const;
  using lazy = lazyUpstream({ ...options, urls: [registry.origin], credentials, rateLimitFloor: 2 });
  expect([lazy.rateLimit, lazy.isSparing, lazy.isAvailableFor('library/tiny')]).toEqual([undefined, false, true]);
  expect(await lazy.tryCredentials({ signal: never() })).toEqual([
    { name: 'user u, password from the configuration', isThere: true },
  ]);
  expect(await lazy.ping({ signal: never() })).toMatchObject({ status: 200 });
  await lazy.client.headManifest('library/tiny', 'v1', { accept, signal: never() });
  expect([lazy.rateLimit?.remaining, lazy.isSparing]).toEqual([1, true]);
  expect(lazy.status().rateLimit?.remaining).toBe(1);
  expect(await lazy.fingerprint((text) => text)).toContain(registry.origin);
  const [{ url } = { url: '' }] = lazy.status().endpoints;
  lazy.pause({ url, service: 'registry', forMs: 60_000, part: { requests: 'blob', repository: 'a' } });
  expect([lazy.isAvailableFor('a'), lazy.isAvailableFor('b')]).toEqual([false, true]);
});
