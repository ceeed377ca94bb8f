import { expect, test } from 'vitest';
import { createUpstream } from '../../src/upstream/create-upstream.ts';
import { lazyUpstream } from '../../src/upstream/lazy-upstream.ts';

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
