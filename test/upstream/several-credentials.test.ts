import { expect, test } from 'vitest';
import { errorAnswer, jsonAnswer } from '../support/answers.ts';
import type { RecordedRequest } from '../support/recorded-request.ts';
import { type ScriptedRegistry, startRegistry } from '../support/registry.ts';
import { accept, failureOf, never, upstreamAt } from './support.ts';

const inline = (username: string) => ({ kind: 'inline', username, password: 'canary' }) as const;
const both = { credentials: inline('first'), moreCredentials: [inline('second')] };

/** A registry that limits some users and lets others read certain repositories only. */
async function startSharedRegistry() {
  const limited = new Map<string, number>();
  const refused = new Map<string, string>();
  const registry = await startRegistry({
    instead: (request) => {
      const user = userOf(request);
      if (user === '') return errorAnswer(401, 'UNAUTHORIZED', { 'WWW-Authenticate': 'Basic realm="registry.test"' });
      const seconds = limited.get(user);
      if (seconds !== undefined) return errorAnswer(429, 'TOOMANYREQUESTS', { 'Retry-After': String(seconds) });
      const repository = refused.get(user);
      return repository !== undefined && request.path.includes(repository) ? errorAnswer(403, 'DENIED') : undefined;
    },
  });
  for (const repository of ['library/tiny', 'library/other']) registry.addImage(repository, 'v1');
  return { registry, limited, refused, [Symbol.asyncDispose]: () => registry[Symbol.asyncDispose]() };
}

function userOf({ headers: { authorization = '' } }: RecordedRequest): string {
  return Buffer.from(authorization.replace('Basic ', ''), 'base64').toString().split(':')[0]!;
}

const usersOf = (registry: ScriptedRegistry) => registry.requests.map(userOf).filter((user) => user !== '');

test('the credential that was used least is sent', async () => {
  await using shared = await startSharedRegistry();
  using upstream = upstreamAt(shared.registry.origin, both);
  for (let pull = 0; pull < 6; pull += 1) {
    await upstream.client.getManifest('library/tiny', 'v1', { accept, signal: never() });
  }
  expect(usersOf(shared.registry).toSorted()).toEqual(['first', 'first', 'first', 'second', 'second', 'second']);
  expect(upstream.status().endpoints[0]?.credentials).toEqual([
    { name: 'user first, password from the configuration', state: 'available', requests: 3 },
    { name: 'user second, password from the configuration', state: 'available', requests: 3 },
  ]);
  expect(JSON.stringify(upstream.status())).not.toContain('canary');
});

test('while one is limited the other is sent, and no request fails', async () => {
  await using shared = await startSharedRegistry();
  let now = 0;
  using upstream = upstreamAt(shared.registry.origin, { ...both, now: () => now });
  const pull = () => upstream.client.getManifest('library/tiny', 'v1', { accept, signal: never() });
  shared.limited.set('first', 60);
  for (let count = 0; count < 5; count += 1) expect((await pull()).bytes.length).toBeGreaterThan(0);
  expect(usersOf(shared.registry)).toEqual(['first', 'second', 'second', 'second', 'second', 'second']);
  expect(upstream.isAvailable).toBe(true);
  expect(upstream.status().endpoints[0]?.credentials?.[0]).toMatchObject({ state: 'limited', untilMs: 60_000 });
  shared.limited.clear();
  now = 61_000;
  for (let count = 0; count < 4; count += 1) await pull();
  expect(usersOf(shared.registry).slice(6)).toEqual(['first', 'first', 'first', 'first']);
});

test('when all are limited the upstream is, until the first of them may be sent again', async () => {
  await using shared = await startSharedRegistry();
  let now = 0;
  using upstream = upstreamAt(shared.registry.origin, { ...both, now: () => now });
  const pull = () => upstream.client.getManifest('library/tiny', 'v1', { accept, signal: never() });
  shared.limited.set('first', 30).set('second', 600);
  expect(await failureOf(pull())).toMatchObject({ code: 'TOOMANYREQUESTS' });
  const asked = shared.registry.requests.length;
  now = 29_000;
  expect(await failureOf(pull())).toMatchObject({ code: 'TOOMANYREQUESTS' });
  expect(shared.registry.requests.length).toBe(asked);
  now = 31_000;
  shared.limited.clear();
  expect((await pull()).bytes.length).toBeGreaterThan(0);
  expect(usersOf(shared.registry).at(-1)).toBe('first');
});

test('a repository that one is refused is read with the other from then on', async () => {
  await using shared = await startSharedRegistry();
  using upstream = upstreamAt(shared.registry.origin, both);
  const pull = (repository: string) =>
    upstream.client.getManifest(repository, 'v1', { accept, signal: never() }).then(({ bytes }) => bytes.length);
  shared.refused.set('first', 'library/other');
  for (let count = 0; count < 4; count += 1) expect(await pull('library/other')).toBeGreaterThan(0);
  expect(usersOf(shared.registry)).toEqual(['first', 'second', 'second', 'second', 'second']);
  shared.refused.set('second', 'library/other');
  expect(await failureOf(pull('library/other'))).toMatchObject({ code: 'DENIED' });
});

test.each(['Basic', 'Bearer'])(
  'one that is revoked rests while the other is sent, where %s is asked for',
  async (scheme) => {
    const revoked = new Set<string>();
    const login = (authorization = '') => Buffer.from(authorization.replace('Basic ', ''), 'base64').toString();
    const isLogin = (authorization?: string) =>
      /^(first|second):canary$/.test(login(authorization)) && !revoked.has(login(authorization));
    await using registry: ScriptedRegistry = await startRegistry({
      instead: ({ path, headers: { authorization } }) => {
        if (path === '/v2/token')
          return isLogin(authorization)
            ? jsonAnswer({ token: login(authorization), expires_in: 300 })
            : errorAnswer(401, 'UNAUTHORIZED');
        const [, token = ''] = /^Bearer (.+)$/.exec(authorization ?? '') ?? [];
        const isRight = scheme === 'Basic' ? isLogin(authorization) : token !== '' && !revoked.has(token);
        const realm = scheme === 'Basic' ? 'registry.test' : `${registry.origin}/v2/token`;
        return isRight
          ? undefined
          : errorAnswer(401, 'UNAUTHORIZED', { 'WWW-Authenticate': `${scheme} realm="${realm}",service="x"` });
      },
    });
    registry.addImage('library/tiny', 'v1');
    using upstream = upstreamAt(registry.origin, both);
    const pull = () => upstream.client.getManifest('library/tiny', 'v1', { accept, signal: never() });
    for (let count = 0; count < 4; count += 1) await pull();
    revoked.add('first:canary');
    for (let count = 0; count < 6; count += 1) expect((await pull()).bytes.length).toBeGreaterThan(0);
    registry.forgetRequests();
    for (let count = 0; count < 6; count += 1) expect((await pull()).bytes.length).toBeGreaterThan(0);
    const shownBy = registry.requests.map(
      ({ headers: { authorization = '' } }) => login(authorization) + authorization,
    );
    expect(shownBy.map((shown) => shown.includes('second:canary'))).toEqual(Array.from({ length: 6 }, () => true));
  },
);
