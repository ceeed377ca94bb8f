import { describe, expect, test } from 'vitest';
import { RegistryError } from '../../src/oci/error.ts';
import type { TransferBody } from '../../src/transport/body.ts';
import { Authenticator, isBasic } from '../../src/upstream/auth.ts';
import { basicAuthorization, type Credential } from '../../src/upstream/credentials/credential.ts';
import type { CredentialSource } from '../../src/upstream/credentials/source.ts';
import { Slot } from '../../src/upstream/credentials/wallet.ts';
import { ForeignTokens } from '../../src/upstream/foreign-tokens.ts';
import type { HttpAnswer, HttpClient, HttpRequest } from '../../src/upstream/http-client.ts';
import { openGate } from '../../src/upstream/passage.ts';
import { Profile } from '../../src/upstream/profile.ts';
import { pullScopes } from '../../src/upstream/scopes.ts';
import { never } from './support.ts';

const signal = never();
const user = { kind: 'basic', username: 'u', password: 'p' } as const;
const realm = 'https://auth.reg.example/token';
const bearer = `Bearer realm="${realm}",service="s",scope="repository:a:pull"`;

type Reply =
  | { readonly status?: number; readonly body?: object | string; readonly headers?: HttpAnswer['headers'] }
  | Error;

/** A client whose requests are answered by hand. */
function http(answer: (request: HttpRequest, count: number) => Reply) {
  const sent: HttpRequest[] = [];
  const send = (request: HttpRequest): Promise<HttpAnswer> => {
    sent.push(request);
    const reply = answer(request, sent.length);
    if (reply instanceof Error) return Promise.reject(reply);
    const { status = 200, body = {}, headers = {} } = reply;
    const bytes = Buffer.from(typeof body === 'string' ? body : JSON.stringify(body));
    const whole: TransferBody = {
      async *[Symbol.asyncIterator]() {
        yield await Promise.resolve(bytes);
      },
      destroy: () => undefined,
    };
    const { url } = request;
    const rest = { url, foreign: false, code: undefined, codings: [], contentLength: bytes.length };
    return Promise.resolve({ status, headers, body: whole, ...rest });
  };
  return { sent, client: { send } as unknown as HttpClient };
}

function slotOf(credential?: Credential, refused: () => Credential | undefined = () => undefined) {
  let current = credential;
  const source: CredentialSource = {
    get: () => Promise.resolve(current),
    refused: () => {
      const next = refused();
      if (next === undefined) return Promise.resolve(false);
      current = next;
      return Promise.resolve(true);
    },
    identity: () => Promise.resolve({ credential: current }),
    status: () => ({}),
  };
  return Object.assign(new Slot('x', credential && source), { change: (next: Credential) => void (current = next) });
}

const noChallenge: (asked: { readonly signal: AbortSignal }) => Promise<string | undefined> = () =>
  Promise.resolve(undefined);

function authenticatorWith(
  answer: (request: HttpRequest, count: number) => Reply = (_, count) => ({ body: { token: `t${count}` } }),
  { endpoint = 'https://reg.example', ping = noChallenge, check = (): void => undefined } = {},
) {
  const time = { now: 1_000_000 };
  const { sent, client } = http(answer);
  const profile = new Profile();
  const pings = { count: 0 };
  const authenticator = new Authenticator({
    upstream: 'x',
    http: client,
    gate: () => ({ ...openGate, check }),
    timeoutMs: 60_000,
    now: () => time.now,
    endpoint: new URL(endpoint),
    tokenRealms: [],
    profile,
    ping: (asked) => {
      pings.count += 1;
      return ping(asked);
    },
  });
  return { authenticator, sent, profile, time, pings };
}

const fresh = { refused: undefined, isFresh: false, signal };
const scopesOf = (sent: readonly HttpRequest[]) => sent.map(({ url }) => url.searchParams.get('scope'));

describe('a challenge', () => {
  test('for a token is met with one of its realm, and remembered for the repository', async () => {
    const { authenticator, sent } = authenticatorWith();
    const slot = slotOf();
    expect(await authenticator.authorization('a', { slot, signal })).toEqual({});
    expect(authenticator.tokenService()).toBeUndefined();
    expect(await authenticator.renew('a', { ...fresh, challenge: bearer, slot })).toBe('Bearer t1');
    expect(sent[0]).toMatchObject({ method: 'GET', lane: 'metadata', redirects: 'any-origin' });
    expect(sent[0]?.url.href).toBe(`${realm}?service=s&scope=repository%3Aa%3Apull`);
    expect(sent[0]?.headers).toEqual({ accept: 'application/json' });
    expect(await authenticator.authorization('a', { slot, signal })).toEqual({ header: 'Bearer t1' });
    expect(await authenticator.authorization('b', { slot, signal })).toEqual({});
    expect(authenticator.tokenService()?.href).toBe(`${realm}?service=s`);
    expect(sent).toHaveLength(1);
  });

  test('that was met is a guess for other repositories once that has worked', async () => {
    const { authenticator, sent, profile } = authenticatorWith();
    const slot = slotOf();
    authenticator.accepted('a');
    await authenticator.renew('a', { ...fresh, challenge: bearer, slot });
    authenticator.accepted('a');
    expect(profile.describe()).toEqual({});
    expect(await authenticator.authorization('b', { slot, signal })).toEqual({ header: 'Bearer t2' });
    expect(scopesOf(sent)).toEqual(['repository:a:pull', 'repository:b:pull']);
  });

  test('for Basic is met with the credential, or with nothing', async () => {
    const { authenticator } = authenticatorWith();
    const [known, none] = [slotOf(user), slotOf()];
    const challenge = 'Basic realm="x"';
    expect(await authenticator.renew('a', { ...fresh, challenge, slot: known })).toBe(basicAuthorization(user));
    expect(await authenticator.renew('b', { ...fresh, challenge, slot: none })).toBeUndefined();
    const token = slotOf({ kind: 'refresh-token', token: 'r' });
    expect(await authenticator.renew('c', { ...fresh, challenge, slot: token })).toBeUndefined();
    authenticator.accepted('a');
    expect(await authenticator.authorization('d', { slot: known, signal })).toEqual({
      header: basicAuthorization(user),
    });
  });

  test.each([[undefined], [''], ['Negotiate']])('of %s cannot be met', async (challenge) => {
    const { authenticator } = authenticatorWith();
    expect(await authenticator.renew('a', { ...fresh, challenge, slot: slotOf(user) })).toBeUndefined();
  });

  test.each([
    ['Bearer service="s"', 'asks for a token without saying where'],
    ['Bearer realm="https://evil.example/t"', 'tokenRealms'],
  ])('of %s is an error, unless Basic is offered beside it', async (challenge, message) => {
    const { authenticator } = authenticatorWith();
    const slot = slotOf(user);
    await expect(authenticator.renew('a', { ...fresh, challenge, slot })).rejects.toThrow(message);
    const both = `${challenge}, Basic realm="x"`;
    expect(await authenticator.renew('a', { ...fresh, challenge: both, slot })).toBe(basicAuthorization(user));
  });

  test('to a fresh token is met with one for its own scope, which is learned where it works', async () => {
    const { authenticator, sent, profile } = authenticatorWith();
    const slot = slotOf();
    const challenge = bearer.replace('repository:a:pull', 'repository:other:pull,push');
    const first = await authenticator.renew('a', { ...fresh, challenge, slot });
    const second = await authenticator.renew('a', { challenge, slot, signal, refused: first, isFresh: true });
    expect([first, second]).toEqual(['Bearer t1', 'Bearer t2']);
    expect(scopesOf(sent)).toEqual(['repository:a:pull', 'repository:other:pull']);
    expect(await authenticator.renew('a', { challenge, slot, signal, refused: second, isFresh: true })).toBe(
      'Bearer t3',
    );
    authenticator.accepted('a');
    await authenticator.renew('c', { ...fresh, challenge, slot });
    authenticator.accepted('c');
    await authenticator.renew('d', { ...fresh, challenge, slot });
    expect(profile.get('tokenScope')).toBe('own');
  });

  test('names the scope below the path of an endpoint', async () => {
    const { authenticator, sent } = authenticatorWith(undefined, { endpoint: 'https://reg.example/v2/hub' });
    await authenticator.renew('a', { ...fresh, challenge: bearer, slot: slotOf() });
    expect(scopesOf(sent)).toEqual(['repository:hub/a:pull']);
    const other = authenticatorWith(undefined, { endpoint: 'https://reg.example/base' });
    await other.authenticator.renew('a', { ...fresh, challenge: bearer, slot: slotOf() });
    expect(scopesOf(other.sent)).toEqual(['repository:a:pull']);
  });
});

describe('a token', () => {
  test('is asked for with the credential, or by POST with an identity token', async () => {
    const { authenticator, sent } = authenticatorWith();
    await authenticator.renew('a', { ...fresh, challenge: bearer, slot: slotOf(user) });
    expect(sent[0]?.headers).toEqual({ accept: 'application/json', authorization: basicAuthorization(user) });
    const slot = slotOf({ kind: 'refresh-token', token: 'r t' });
    await authenticator.renew('b', { ...fresh, challenge: bearer, slot });
    expect(sent[1]).toMatchObject({
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded', accept: 'application/json' },
    });
    expect([sent[1]?.url.href, Object.fromEntries(new URLSearchParams(sent[1]?.body))]).toEqual([
      realm,
      {
        grant_type: 'refresh_token',
        client_id: 'millpond',
        scope: 'repository:b:pull',
        service: 's',
        refresh_token: 'r t',
      },
    ]);
  });

  test.each<[object, number]>([
    [{ token: 't', expires_in: 100 }, 80_000],
    [{ access_token: 't', expires_in: 100 }, 80_000],
    [{ token: '', access_token: 't', expires_in: 100 }, 80_000],
    [{ token: 't' }, 48_000],
    [{ token: 't', expires_in: 10 }, 48_000],
    [{ token: 't', expires_in: 'soon' }, 48_000],
    [{ token: 't', expires_in: '100' }, 80_000],
  ])('from %j is used for %i ms', async (body, usableMs) => {
    const { authenticator, sent, time } = authenticatorWith(() => ({ body }));
    const slot = slotOf();
    await authenticator.renew('a', { ...fresh, challenge: bearer, slot });
    time.now += usableMs - 1;
    expect(await authenticator.authorization('a', { slot, signal })).toEqual({ header: 'Bearer t' });
    expect(sent).toHaveLength(1);
    time.now += 1;
    await authenticator.authorization('a', { slot, signal });
    expect(sent).toHaveLength(2);
  });

  test.each<[Reply, object]>([
    [{ status: 401 }, { reason: 'denied' }],
    [{ status: 403 }, { reason: 'denied' }],
    [
      { status: 429, headers: { 'retry-after': '7' } },
      { reason: 'limited', headers: { 'Retry-After': '7' } },
    ],
    [{ status: 500 }, { reason: 'bad-status', detail: { upstream: 'x', upstreamStatus: 500 } }],
    [{ body: {} }, { reason: 'bad-answer' }],
    [{ body: 'text' }, { reason: 'bad-answer' }],
    [{ body: 'null' }, { reason: 'bad-answer' }],
    [{ body: '"text"' }, { reason: 'bad-answer' }],
    [{ body: { token: 'with space' } }, { reason: 'bad-answer' }],
    [{ body: { token: 7 } }, { reason: 'bad-answer' }],
    [{ body: { token: 't', pad: 'x'.repeat(256 * 1024) } }, { reason: 'bad-answer' }],
    [new RegistryError('unreachable', 'gone'), { reason: 'unreachable' }],
  ])('is not had from %j', async (reply, expected) => {
    const { authenticator } = authenticatorWith(() => reply);
    const asked = authenticator.renew('a', { ...fresh, challenge: bearer, slot: slotOf() });
    await expect(asked).rejects.toMatchObject(expected);
  });

  test('that cannot be had for a known demand is left out, and the demand forgotten', async () => {
    let isGone = false;
    const { authenticator } = authenticatorWith(() => (isGone ? { status: 500 } : { body: { token: 't' } }));
    const slot = slotOf();
    await authenticator.renew('a', { ...fresh, challenge: bearer, slot });
    authenticator.accepted('a');
    isGone = true;
    const { failure } = await authenticator.authorization('b', { slot, signal });
    expect(failure).toMatchObject({ reason: 'bad-status' });
    expect(await authenticator.authorization('c', { slot, signal })).toEqual({});
    expect((await authenticator.authorization('a', { slot, signal })).header).toBe('Bearer t');
  });

  test('that was refused is asked for again, those of others stay', async () => {
    const { authenticator, sent } = authenticatorWith();
    const slot = slotOf();
    for (const name of ['a', 'b']) await authenticator.renew(name, { ...fresh, challenge: bearer, slot });
    await authenticator.renew('a', { ...fresh, refused: 'Bearer t1', challenge: bearer, slot });
    expect((await authenticator.authorization('b', { slot, signal })).header).toBe('Bearer t2');
    expect((await authenticator.authorization('a', { slot, signal })).header).toBe('Bearer t3');
    expect(sent).toHaveLength(3);
  });

  test('of a credential that has changed is forgotten', async () => {
    const { authenticator, sent } = authenticatorWith();
    const slot = slotOf(user);
    await authenticator.renew('a', { ...fresh, challenge: bearer, slot });
    slot.change({ ...user, password: 'other' });
    expect(await authenticator.identityOf(slot)).toEqual({ credential: { ...user, password: 'other' } });
    expect((await authenticator.authorization('a', { slot, signal })).header).toBe('Bearer t2');
    expect(sent).toHaveLength(2);
  });

  test('is asked for once more where the credential may have expired', async () => {
    for (const status of [400, 401, 403]) {
      const { authenticator, sent } = authenticatorWith((_, count) =>
        count === 1 ? { status } : { body: { token: 't' } },
      );
      const slot = slotOf(user, () => ({ ...user, password: 'renewed' }));
      expect(await authenticator.renew('a', { ...fresh, challenge: bearer, slot })).toBe('Bearer t');
      expect(sent).toHaveLength(2);
      const kept = authenticatorWith(() => ({ status }));
      const asked = kept.authenticator.renew('a', { ...fresh, challenge: bearer, slot: slotOf(user) });
      await expect(asked).rejects.toBeInstanceOf(RegistryError);
      expect(kept.sent).toHaveLength(1);
    }
  });
});

describe('a credential', () => {
  test('that was refused is replaced by what has come meanwhile, or renewed', async () => {
    const { authenticator } = authenticatorWith();
    const slot = slotOf(user, () => ({ ...user, password: 'renewed' }));
    const ask = (sent?: string) => authenticator.hasRenewed({ slot, signal, ...(sent !== undefined && { sent }) });
    expect(await ask('Basic of before')).toBe(true);
    expect(await ask(basicAuthorization(user))).toBe(true);
    expect(await authenticator.hasRenewed({ slot: slotOf(), signal })).toBe(false);
    expect(await authenticator.hasRenewed({ slot: slotOf(user), signal, sent: basicAuthorization(user) })).toBe(false);
    expect(await authenticator.hasCredential({ slot, signal })).toBe(true);
    expect(await authenticator.hasCredential({ slot: slotOf(), signal })).toBe(false);
  });

  test('that was renewed after a refusal is sent', async () => {
    const { authenticator } = authenticatorWith();
    const renewed = { ...user, password: 'renewed' };
    const slot = slotOf(user, () => renewed);
    const options = { challenge: 'Basic realm="x"', slot, signal, isFresh: true };
    await authenticator.renew('a', { ...options, refused: undefined });
    expect(await authenticator.renew('a', { ...options, refused: basicAuthorization(user) })).toBe(
      basicAuthorization(renewed),
    );
  });

  test('is told from a token by its scheme', () => {
    expect([isBasic('Basic x'), isBasic('Bearer x'), isBasic(undefined), isBasic('basic x')]).toEqual([
      true,
      false,
      false,
      false,
    ]);
  });
});

test('a repository that gave nothing without a token is asked for one first, for a minute', async () => {
  let isClosed = false;
  const check = (): void => {
    if (isClosed) throw new RegistryError('left-alone', 'closed');
  };
  const { authenticator, time } = authenticatorWith(() => ({ status: 500 }), { check });
  const slot = slotOf();
  await expect(authenticator.renew('a', { ...fresh, challenge: bearer, slot })).rejects.toThrow();
  isClosed = true;
  await expect(authenticator.authorization('a', { slot, signal })).rejects.toThrow('closed');
  time.now += 59_999;
  await expect(authenticator.authorization('a', { slot, signal })).rejects.toThrow('closed');
  await expect(authenticator.authorization('b', { slot, signal })).resolves.toBeDefined();
  time.now += 1;
  await expect(authenticator.authorization('a', { slot, signal })).resolves.toBeDefined();
});

describe('a registry that says at /v2/ alone what it demands', () => {
  test('is asked once in ten minutes, and what it demands is met and remembered', async () => {
    const { authenticator, pings, profile, time } = authenticatorWith(undefined, {
      ping: () => Promise.resolve(bearer),
    });
    const slot = slotOf();
    expect(await authenticator.pinged('a', { slot, signal })).toBe('Bearer t1');
    expect(profile.get('challenge')).toBe('at /v2/');
    expect((await authenticator.authorization('a', { slot, signal })).header).toBe('Bearer t1');
    time.now += 599_999;
    await authenticator.pinged('b', { slot, signal });
    expect(pings.count).toBe(1);
    time.now += 1;
    await authenticator.pinged('b', { slot, signal });
    expect(pings.count).toBe(2);
  });

  test('and demands nothing, or what cannot be had, is asked without anything', async () => {
    const nothing = authenticatorWith();
    expect(await nothing.authenticator.pinged('a', { slot: slotOf(), signal })).toBeUndefined();
    const basic = authenticatorWith(undefined, { ping: () => Promise.resolve('Basic realm="x"') });
    expect(await basic.authenticator.pinged('a', { slot: slotOf(), signal })).toBeUndefined();
    expect([nothing.profile.describe(), basic.profile.describe()]).toEqual([{}, {}]);
    expect(await basic.authenticator.authorization('a', { slot: slotOf(user), signal })).toEqual({});
  });

  test('is asked again where the client left before it answered', async () => {
    let fails = true;
    const ping = () => (fails ? Promise.reject(new Error('left')) : Promise.resolve(bearer));
    const { authenticator, pings } = authenticatorWith(undefined, { ping });
    expect(await authenticator.pinged('a', { slot: slotOf(), signal: AbortSignal.abort() })).toBeUndefined();
    fails = false;
    expect(await authenticator.pinged('a', { slot: slotOf(), signal })).toBe('Bearer t1');
    expect(pings.count).toBe(2);
    const failed = authenticatorWith(undefined, { ping: () => Promise.reject(new Error('down')) });
    for (let turn = 0; turn < 2; turn += 1) await failed.authenticator.pinged('a', { slot: slotOf(), signal });
    expect(failed.pings.count).toBe(1);
  });
});

describe('the question what /v2/ demands', () => {
  test('goes on for others when the client that asked it first leaves', async () => {
    const answered = Promise.withResolvers<string | undefined>();
    const ping = ({ signal: until }: { readonly signal: AbortSignal }) => {
      until.addEventListener('abort', () => answered.reject(new Error('left')));
      return answered.promise;
    };
    const { authenticator, pings } = authenticatorWith(undefined, { ping });
    const first = new AbortController();
    const left = authenticator.pinged('a', { slot: slotOf(), signal: first.signal });
    const other = authenticator.pinged('b', { slot: slotOf(), signal });
    first.abort(new Error('left'));
    expect(await left).toBeUndefined();
    answered.resolve(bearer);
    expect(await other).toBe('Bearer t1');
    expect(pings.count).toBe(1);
  });

  test('is asked again soon after it could not be answered', async () => {
    let fails = true;
    const ping = () => (fails ? Promise.reject(new Error('down')) : Promise.resolve(bearer));
    const { authenticator, time } = authenticatorWith(undefined, { ping });
    expect(await authenticator.pinged('a', { slot: slotOf(), signal })).toBeUndefined();
    fails = false;
    time.now += 10_000;
    expect(await authenticator.pinged('a', { slot: slotOf(), signal })).toBe('Bearer t1');
  });
});

test.each([
  ['repository:a/b:pull', ['repository:a/b:pull']],
  ['repository:a:pull,push', ['repository:a:pull']],
  ['repository(plugin):a:pull', ['repository(plugin):a:pull']],
  ['repository:host:5000/a:pull', ['repository:host:5000/a:pull']],
  ['registry:catalog:*', []],
  ['repository:a', []],
  ['repository::pull', []],
  ['repository:a b:pull', []],
  ['xrepository:a:pull', []],
  ['repository:a:pull x', ['repository:a:pull']],
  [
    'registry:catalog:* repository:b:*  repository:a:pull repository:b:push',
    ['repository:b:pull', 'repository:a:pull'],
  ],
  [`${'x '.repeat(10)}repository:a:pull`, []],
  [undefined, []],
])('of the scopes %s, what is needed to pull is %j', (scopes, expected) => {
  expect(pullScopes(scopes)).toEqual(expected);
});

describe('another registry that an upstream redirects to', () => {
  const target = new URL('https://other.example/v2/team/app/manifests/v1');
  const ask = async (challenge: string | undefined, at = target) => {
    const { sent, client } = http(() => ({ body: { token: 'foreign' } }));
    const tokens = new ForeignTokens({ upstream: 'x', http: client, timeoutMs: 60_000, now: () => 0 });
    const token = await tokens.get({ challenge, target: at, signal });
    return { token, sent: sent.map(({ url, headers }) => [url.href, headers['authorization']]) };
  };

  test.each([
    ['manifests/v1', 'repository:team/app:pull'],
    ['blobs/sha256:1', 'repository:team/app:pull'],
    ['tags/list', 'repository:team/app:pull'],
    ['referrers/x', 'repository:team/app:pull'],
    ['manifests/a/b', undefined],
    ['other/x', undefined],
  ])('gives a token for %s to anonymous clients, for the scope %s', async (path, scope) => {
    const at = new URL(`https://other.example/v2/team/app/${path}`);
    const { token, sent } = await ask('Bearer realm="https://other.example/t",service="o"', at);
    const url = `https://other.example/t?service=o&scope=${encodeURIComponent(scope ?? '')}`;
    expect(token).toBe(scope && 'foreign');
    expect(sent).toEqual(scope === undefined ? [] : [[url, undefined]]);
  });

  test('gives one for the scope that its challenge names', async () => {
    const { sent } = await ask('Bearer realm="https://other.example/t",scope="repository:b:pull"');
    expect(sent).toEqual([['https://other.example/t?scope=repository%3Ab%3Apull', undefined]]);
  });

  test('is not asked where it demands something else, or names a realm that is not its own', async () => {
    expect(await ask('Basic realm="x"')).toEqual({ token: undefined, sent: [] });
    expect(await ask(undefined)).toEqual({ token: undefined, sent: [] });
    await expect(ask('Bearer realm="https://reg.example/t"')).rejects.toThrow('tokenRealms');
  });
});
