import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { UpstreamOptions } from '../../src/upstream/options.ts';
import { type RegistryOptions, type ScriptedRegistry, startRegistry } from '../support/registry.ts';
import { temporaryFolder } from '../support/site.ts';
import type { TokenServiceOptions } from '../support/token-service.ts';
import { accept, bytesOf, failureOf, never, upstreamAt } from './support.ts';

const credentials = { username: 'robot', password: 'open:sesame' };
const inline = { kind: 'inline', ...credentials } as const;

type OwnOptions = Partial<Omit<UpstreamOptions, 'urls'>>;

async function startSite(options: RegistryOptions, own: OwnOptions = {}) {
  const registry = await startRegistry(options);
  registry.addImage('library/tiny', 'v1');
  registry.addImage('library/other', 'v1');
  const upstream = upstreamAt(registry.origin, own);
  return {
    registry,
    pull: (repository = 'library/tiny', signal = never()) =>
      upstream.client.getManifest(repository, 'v1', { accept, signal }),
    async [Symbol.asyncDispose]() {
      upstream[Symbol.dispose]();
      await registry.close();
    },
  };
}

const tokenRequests = (registry: ScriptedRegistry) => registry.tokenServer.requests;

test('a token is fetched once for a repository, and then brought along at once', async () => {
  await using site = await startSite({ token: {} });
  await site.pull();
  expect(site.registry.requests.map(({ status }) => status)).toEqual([401, 200]);
  await site.pull();
  expect(site.registry.requests.map(({ status }) => status)).toEqual([401, 200, 200]);
  await site.pull('library/other');
  expect(site.registry.requests).toHaveLength(4);
  expect(tokenRequests(site.registry).map(({ query }) => query.get('scope'))).toEqual([
    'repository:library/tiny:pull',
    'repository:library/other:pull',
  ]);
  expect(tokenRequests(site.registry)[0]?.query.get('service')).toBe('registry.test');
});

test.each<[string, TokenServiceOptions]>([
  ['access_token', { field: 'access_token' }],
  ['both members', { field: 'both', expiresInSeconds: 300, issuedAt: true }],
  ['a placeholder scope in the challenge', { challengeScope: 'repository:user/image:pull' }],
  ['no scope in the challenge', { challengeScope: undefined }],
])('a token service with %s is understood', async (_, token) => {
  await using site = await startSite({ token });
  await site.pull();
  expect(site.registry.tokens.issued('repository:library/tiny:pull')).toBe(1);
});

test('fifty requests at once share one token request', async () => {
  await using site = await startSite({ token: { credentials } }, { credentials: inline });
  const pulls = await Promise.all(Array.from({ length: 50 }, () => site.pull()));
  expect(pulls).toHaveLength(50);
  expect(site.registry.tokens.issued()).toBe(1);
});

test('a waiter that leaves does not fail the others, and the last one to leave ends the wait', async () => {
  await using site = await startSite({ token: {} });
  await site.pull();
  const pause = site.registry.tokenServer.place(undefined, { kind: 'pause' }, {});
  const leaving = new AbortController();
  const left = site.pull('library/other', leaving.signal);
  const stayed = site.pull('library/other');
  await pause.reached;
  const reason = new Error('client left');
  leaving.abort(reason);
  await expect(left).rejects.toBe(reason);
  pause.release();
  expect((await stayed).bytes.length).toBeGreaterThan(0);
  expect(site.registry.tokens.issued('repository:library/other:pull')).toBe(1);
});

test('a token without a lifetime is used for less than 60 seconds, one with a lifetime for less than that', async () => {
  for (const [expiresInSeconds, lifetimeMs] of [
    [undefined, 60_000],
    [300, 300_000],
  ] as const) {
    let now = 1_000_000;
    await using site = await startSite({ token: { expiresInSeconds, now: () => now } }, { now: () => now });
    await site.pull();
    now += lifetimeMs * 0.75;
    await site.pull();
    expect(site.registry.tokens.issued()).toBe(1);
    now += lifetimeMs * 0.1;
    await site.pull();
    expect(site.registry.tokens.issued()).toBe(2);
    expect(site.registry.requests.map(({ status }) => status)).toEqual([401, 200, 200, 200]);
  }
});

test('a cached token that is refused is replaced once, for all who hold it', async () => {
  await using site = await startSite({ token: {} });
  await site.pull();
  site.registry.tokens.revokeAll();
  await Promise.all(Array.from({ length: 10 }, () => site.pull()));
  expect(site.registry.tokens.issued()).toBe(2);
});

test('a refusal after a fresh token is 403 DENIED without the challenge', async () => {
  await using site = await startSite({ token: {} });
  const headers = { 'WWW-Authenticate': `Bearer realm="${site.registry.origin}/token",service="hidden"` };
  site.registry.fault(/manifests/, { kind: 'status', status: 401, headers });
  const error = await failureOf(site.pull());
  expect(error).toMatchObject({ code: 'DENIED', status: 403, headers: {} });
  expect(error.message).toContain('upstreams.docker.io.auth');
  expect(JSON.stringify(error.toBody())).not.toMatch(/hidden|Bearer/);
  expect(site.registry.requests).toHaveLength(2);
});

test('credentials go to the token service and nowhere else', async () => {
  await using registry = await startRegistry({ token: { credentials } });
  const blob = registry.addBlob(Buffer.from('blob'));
  using upstream = upstreamAt(registry.origin, { credentials: inline });
  await upstream.client.headBlob('library/tiny', blob.digest, { signal: never() });
  registry.fault(/blobs/, { kind: 'redirect' });
  await bytesOf(await upstream.client.endpoints[0]!.openBlob('library/tiny', blob.digest, { signal: never() }));
  expect(tokenRequests(registry).map(({ headers }) => headers.authorization?.split(' ')[0])).toEqual(['Basic']);
  expect(registry.requests.map(({ headers }) => headers.authorization?.split(' ')[0])).toEqual([
    undefined,
    'Bearer',
    'Bearer',
  ]);
  expect(registry.cdn.requests.map(({ headers }) => headers.authorization)).toEqual([undefined]);
});

test('a realm of another domain is never dialled, unless it is listed', async () => {
  await using other = await startRegistry({ host: '127.0.0.2', token: {} });
  const realm = `${other.tokenServer.origin}/token`;
  {
    await using site = await startSite({ token: { realm } }, { credentials: inline });
    const error = await failureOf(site.pull());
    expect(error).toMatchObject({ code: 'UNAVAILABLE', status: 502 });
    expect(error.message).toMatch(/127\.0\.0\.2.*upstreams\.docker\.io\.tokenRealms/);
    expect(tokenRequests(other)).toHaveLength(0);
  }
  await using site = await startSite({ token: { realm } }, { credentials: inline, tokenRealms: ['127.0.0.2'] });
  // That service's tokens mean nothing to this registry; what counts is that it was asked.
  expect(await failureOf(site.pull())).toMatchObject({ code: 'DENIED' });
  expect(tokenRequests(other)[0]?.headers.authorization).toMatch(/^Basic /);
});

test('a token service that redirects to another origin is followed without our credentials', async () => {
  await using other = await startRegistry({ token: {} });
  await using site = await startSite({ token: { credentials } }, { credentials: inline });
  site.registry.tokenServer.place(undefined, { kind: 'redirect-to', location: `${other.origin}/token` }, {});
  // That service's tokens mean nothing to this registry; what counts is that it was asked.
  expect(await failureOf(site.pull())).toMatchObject({ code: 'DENIED' });
  expect(tokenRequests(other).length).toBeGreaterThan(0);
  expect(tokenRequests(other).map(({ headers }) => headers.authorization)).not.toContainEqual(expect.anything());
});

test('a token service that redirects a POST with credentials to another origin is not followed', async () => {
  await using other = await startRegistry();
  await using folder = await temporaryFolder();
  const path = join(folder.path, 'config.json');
  await using site = await startSite({ token: { credentials } }, { credentials: { kind: 'docker-config', path } });
  await writeFile(path, JSON.stringify({ auths: { [site.registry.host]: { identitytoken: 'identity' } } }));
  site.registry.tokenServer.place(undefined, { kind: 'redirect-to', location: `${other.origin}/token` }, {});
  expect(await failureOf(site.pull())).toMatchObject({ code: 'UNAVAILABLE' });
  expect(other.requests).toHaveLength(0);
});

test.each<[number, string, Record<string, string>]>([
  [401, 'DENIED', {}],
  [403, 'DENIED', {}],
  [429, 'TOOMANYREQUESTS', { 'Retry-After': '9' }],
  [500, 'UNAVAILABLE', {}],
  [400, 'UNAVAILABLE', {}],
])('a token service that answers %i gives %s', async (status, code, headers) => {
  await using site = await startSite({ token: {} });
  // A 403 that says for how long is a limit.
  const sent: Record<string, string> = status === 403 ? {} : { 'Retry-After': '9' };
  site.registry.tokenServer.place(undefined, { kind: 'status', status, headers: sent }, {});
  const errors = await Promise.all([failureOf(site.pull()), failureOf(site.pull())]);
  for (const error of errors) expect(error).toMatchObject({ code, headers });
});

test('a token service that is silent, or answers without a token, gives UNAVAILABLE', async () => {
  await using site = await startSite({ token: {} }, { timeouts: { headersMs: 5_000 } });
  site.registry.tokenServer.place(undefined, { kind: 'html' }, { times: 1 });
  expect(await failureOf(site.pull())).toMatchObject({ code: 'UNAVAILABLE', status: 502 });
  site.registry.tokenServer.place(undefined, { kind: 'silence' }, {});
  expect(await failureOf(site.pull())).toMatchObject({ code: 'UNAVAILABLE', status: 504 });
});

test.each(['to\nken', 'to ken', 'tökén', ' ', ''])(
  'a token that no header may have (%j) is none, and the token service is not taken for one that cannot be reached',
  async (token) => {
    await using site = await startSite({ token: {} });
    const body = JSON.stringify({ token });
    const strange = site.registry.tokenServer.place(undefined, { kind: 'status', status: 200, body });
    for (let round = 0; round < 5; round += 1) {
      const error = await failureOf(site.pull());
      expect(error.message).toBe('upstream docker.io has a token service that answered without a token');
    }
    strange.release();
    expect((await site.pull()).bytes.length).toBeGreaterThan(0);
  },
);

test('a token that was asked for with a password which has changed meanwhile is not used again', async () => {
  await using folder = await temporaryFolder();
  const passwordFile = join(folder.path, 'password');
  await writeFile(passwordFile, 'old');
  const own = { credentials: { kind: 'password-file', username: 'robot', passwordFile } } as const;
  await using site = await startSite({ token: {} }, own);
  const pause = site.registry.tokenServer.place(undefined, { kind: 'pause' }, { times: 1 });
  const first = site.pull();
  await pause.reached;
  await writeFile(passwordFile, 'new');
  await site.pull('library/other');
  pause.release();
  await first;
  await site.pull();
  const shown = tokenRequests(site.registry).map(({ query, headers }) => [
    query.get('scope'),
    Buffer.from(headers.authorization?.split(' ')[1] ?? '', 'base64').toString(),
  ]);
  expect(shown).toEqual([
    ['repository:library/tiny:pull', 'robot:old'],
    ['repository:library/other:pull', 'robot:new'],
    ['repository:library/tiny:pull', 'robot:new'],
  ]);
});

test('another registry that an upstream redirects to is asked with a token for anonymous clients, and never with ours', async () => {
  await using other = await startRegistry({ token: {} });
  const image = other.addImage('mirrored/tiny', 'v1');
  await using site = await startSite({ basic: credentials }, { credentials: inline });
  await site.pull();
  const location = `${other.origin}/v2/mirrored/tiny/manifests/v1`;
  site.registry.fault(/manifests/, { kind: 'redirect-to', location });
  expect((await site.pull()).digest).toBe(image.digest);
  expect(tokenRequests(other).map(({ query, headers }) => [query.get('scope'), headers.authorization])).toEqual([
    ['repository:mirrored/tiny:pull', undefined],
  ]);
  const shown = other.requests.map(({ headers }) => headers.authorization ?? '');
  expect(shown.filter((authorization) => authorization.startsWith('Basic'))).toEqual([]);
});

test('what /v2/ demands is asked once, however often something is not there', async () => {
  let now = 1_000_000;
  await using site = await startSite({}, { credentials: inline, now: () => now });
  const pings = (): number => site.registry.requests.filter(({ path }) => path === '/v2/').length;
  for (let round = 0; round < 3; round += 1) await failureOf(site.pull(`library/none${round}`));
  expect(pings()).toBe(1);
  now += 24 * 3_600_000;
  await failureOf(site.pull('library/later'));
  expect(pings()).toBe(2);
});

test('Basic is remembered after the first challenge', async () => {
  await using site = await startSite({ basic: credentials }, { credentials: inline });
  await site.pull();
  await site.pull('library/other');
  expect(site.registry.requests.map(({ status }) => status)).toEqual([401, 200, 200]);
});

test('Basic without credentials, or with wrong ones, is 403 DENIED and not tried over and over', async () => {
  {
    await using site = await startSite({ basic: credentials });
    expect(await failureOf(site.pull())).toMatchObject({ code: 'DENIED', status: 403 });
    expect(site.registry.requests).toHaveLength(1);
  }
  await using site = await startSite({ basic: credentials }, { credentials: { ...inline, password: 'wrong' } });
  const error = await failureOf(site.pull());
  expect(error).toMatchObject({ code: 'DENIED', status: 403 });
  expect(JSON.stringify(error.toBody())).not.toContain('wrong');
  expect(site.registry.requests).toHaveLength(2);
  await failureOf(site.pull());
  expect(site.registry.requests).toHaveLength(3);
});

test('a repository that needs no token is served where the token service has died after it had worked', async () => {
  await using site = await startSite({ token: {} });
  const { bytes, mediaType, digest } = await site.pull().then(() => site.registry.addImage('library/other', 'v1'));
  site.registry.tokenServer.place(undefined, { kind: 'status', status: 500 });
  site.registry.fault(/library\/other/, {
    kind: 'status',
    status: 200,
    headers: { 'Content-Type': mediaType, 'Docker-Content-Digest': digest },
    body: bytes.toString(),
  });
  await site.pull('library/other');
  const last = site.registry.requests.at(-1);
  expect([last?.path.includes('library/other'), last?.headers.authorization]).toEqual([true, undefined]);
});

test('a registry that refuses a token for anonymous clients is not said to refuse our credentials', async () => {
  await using site = await startSite({ token: {} });
  const challenge = site.registry.tokens.challenge(`${site.registry.origin}/token`, 'library/tiny');
  const refused = { kind: 'status', status: 401, headers: { 'WWW-Authenticate': challenge } } as const;
  const fault = site.registry.fault(/manifests/, refused);
  expect(await failureOf(site.pull())).toMatchObject({
    code: 'DENIED',
    message: expect.stringContaining('does not give library/tiny to anonymous clients') as string,
  });
  expect(fault.met).toBeGreaterThan(1);
});
