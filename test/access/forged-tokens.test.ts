import { createHmac, generateKeyPairSync, type KeyObject, sign as signBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { SignJWT } from 'jose';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { userCaller } from '../../src/access/caller.ts';
import { Tokens } from '../../src/access/tokens.ts';
import { startTestSite, temporaryFolder } from '../support/site.ts';
import { type Issuer, sign, signingKey, startIssuer, startIssuerSite } from './issuer.ts';
import { basic, bearer, htpasswdFile, tokenOf } from './support.ts';

type Fields = Readonly<Record<string, unknown>>;

function encoded(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

function decoded(part = ''): Fields {
  return JSON.parse(Buffer.from(part, 'base64url').toString()) as Fields;
}

/** A token with any header, signed as HS256 is. */
function byHash(header: Fields, payload: Fields, secret: string | Buffer): string {
  const signed = `${encoded(header)}.${encoded(payload)}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

/** A token with any header, signed as ES256 is. */
function byKey(header: Fields, payload: Fields, key: KeyObject): string {
  const signed = `${encoded(header)}.${encoded(payload)}`;
  return `${signed}.${signBytes('sha256', Buffer.from(signed), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`;
}

/** A server that would give any key, and notes who asks. */
async function startTrap(stack: AsyncDisposableStack) {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(String(request.url));
    response.end('{"keys":[]}');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  stack.defer(() => new Promise<void>((resolve) => void server.close(() => resolve())));
  return { asked, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/keys` };
}

test('a token of the mirror that was changed, or made by others, is refused', async () => {
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await temporaryFolder());
  const trap = await startTrap(stack);
  const auth = { htpasswdFile: await htpasswdFile(folder.path, { ann: 'a-secret' }), refreshTokenExpiry: '1d' };
  const site = stack.use(
    await startTestSite({ upstreams: { 'registry.test': { origin: 'http://127.0.0.1:1' } }, config: { auth } }),
  );
  const token = await tokenOf(site, '', basic('ann', 'a-secret'));
  const [head = '', body = '', signature = ''] = token.split('.');
  const [header, payload] = [decoded(head), decoded(body)];
  const root = { ...payload, sub: 'root' };
  const forged = [
    `${encoded({ ...header, alg: 'none' })}.${body}.`,
    `${encoded({ ...header, alg: 'None' })}.${body}.${signature}`,
    `${head}.${encoded(root)}.${signature}`,
    `${head}.${body}.`,
    `${head}.${body}`,
    `${head}.${body}.${signature.slice(0, -2)}`,
    `${encoded({ ...header, kid: 'one' })}.${body}.${signature}`,
    ...['', 'millpond', 'millpond tokens of callers', Buffer.alloc(32)].map((secret) => byHash(header, root, secret)),
    ...['jku', 'x5u', 'kid'].map((name) => byHash({ ...header, [name]: trap.url }, root, 'secret')),
    byHash({ ...header, jwk: { kty: 'oct', k: 'c2VjcmV0' } }, root, 'secret'),
    byHash({ ...header, kid: '../../../../dev/null' }, root, ''),
  ];
  expect((await site.get('/v2/', { headers: bearer(token) })).status).toBe(200);
  for (const one of forged) {
    expect([one, (await site.get('/v2/', { headers: bearer(one) })).status]).toEqual([one, 401]);
    const form = new URLSearchParams({ grant_type: 'refresh_token', service: 'millpond', refresh_token: one });
    const renewed = await fetch(`${site.origin}/token`, { method: 'POST', body: form });
    expect([one, renewed.status]).toEqual([one, 401]);
  }
  // A token that says who asks is no password, and no refresh token.
  expect((await site.get('/v2/', { headers: basic('ann', token) })).status).toBe(401);
  expect(trap.asked).toEqual([]);
});

test('a token ends with the key that signed it, also one that was seen before', async () => {
  let nowMs = Date.now();
  const tokens = new Tokens({ now: () => nowMs });
  const stolen = Buffer.from('a secret that was stolen');
  tokens.renew(stolen);
  const thief = new Tokens({ now: () => nowMs });
  thief.renew(stolen);
  const identity = { caller: userCaller('root', '127.0.0.1'), proof: { by: 'password', mark: 'x' } } as const;
  const life = { use: 'access', lifeMs: 10 * 365 * 86_400_000 } as const;
  const { token } = await thief.issue({ identity, grants: [] }, life);
  const sealed = await thief.seal('credentials');
  const isRead = async (): Promise<boolean> =>
    (await tokens.read(token, { use: 'access', address: '127.0.0.1' })) !== undefined;
  expect([await isRead(), await tokens.unseal(sealed)]).toEqual([true, 'credentials']);
  tokens.renew(Buffer.from('another'));
  expect(await isRead()).toBe(true);
  nowMs += 3_600_001;
  expect([await isRead(), await tokens.unseal(sealed)]).toEqual([false, undefined]);
  // The stolen one stays out, whatever becomes the secret next.
  tokens.renew(Buffer.from('a third'));
  expect(await isRead()).toBe(false);
});

/** What a token may try on an issuer, with the status that it has to get. */
const attempts: readonly (readonly [string, number, (issuer: Issuer, trap: string) => string | Promise<string>])[] = [
  ['nothing wrong', 200, (issuer) => sign(issuer)],
  ['no key named, where there is one', 200, ({ state }) => byKey({ alg: 'ES256' }, claims(state), keyOf(state))],
  ['several audiences, of which one is this', 200, (issuer) => sign(issuer, { aud: ['other', 'millpond'] })],
  ['a clock that is 50 seconds behind', 200, (issuer) => sign(issuer, { exp: seconds() - 50 })],
  ['a clock that is 50 seconds ahead', 200, (issuer) => sign(issuer, { nbf: seconds() + 50 })],
  ['a clock that is 70 seconds behind', 401, (issuer) => sign(issuer, { exp: seconds() - 70 })],
  ['a clock that is 70 seconds ahead', 401, (issuer) => sign(issuer, { nbf: seconds() + 70 })],
  ['no algorithm', 401, ({ state }) => `${encoded({ alg: 'none', kid: 'one' })}.${encoded(claims(state))}.`],
  ['no algorithm and a signature', 401, ({ state }) => byKey({ alg: 'nOnE', kid: 'one' }, claims(state), keyOf(state))],
  ...(['pem', 'der'] as const).map(
    (format) =>
      [
        `the public key in ${format} as a shared secret`,
        401,
        ({ state }: Issuer) => byHash({ alg: 'HS256', kid: 'one' }, claims(state), publicKeyOf(state, format)),
      ] as const,
  ),
  [
    'the public key as JWK as a shared secret',
    401,
    ({ state }) => byHash({ alg: 'HS256', kid: 'one' }, claims(state), JSON.stringify(state.keys[0]!.jwk)),
  ],
  [
    'its own key',
    401,
    ({ state }) => {
      const { privateKey, jwk } = signingKey('one');
      return byKey({ alg: 'ES256', kid: 'one', jwk }, claims(state), privateKey);
    },
  ],
  ...['jku', 'x5u'].map(
    (name) =>
      [
        `its own key at an address in ${name}`,
        401,
        ({ state }: Issuer, url: string) =>
          byKey({ alg: 'ES256', kid: 'one', [name]: url }, claims(state), signingKey('one').privateKey),
      ] as const,
  ),
  ...['../../../../dev/null', "' OR 1=1 --", 'two', ''].map(
    (kid) =>
      [
        `the key "${kid}"`,
        401,
        ({ state }: Issuer) => byKey({ alg: 'ES256', kid }, claims(state), keyOf(state)),
      ] as const,
  ),
  [
    'a key of another kind by the same name',
    401,
    ({ state }) => {
      const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
      return new SignJWT(claims(state)).setProtectedHeader({ alg: 'RS256', kid: 'one' }).sign(privateKey);
    },
  ],
  [
    'something critical that is not understood',
    401,
    ({ state }) => byKey({ alg: 'ES256', kid: 'one', crit: ['x'], x: 1 }, claims(state), keyOf(state)),
  ],
  [
    'a payload that is not encoded',
    401,
    ({ state }) => byKey({ alg: 'ES256', kid: 'one', crit: ['b64'], b64: false }, claims(state), keyOf(state)),
  ],
  ...(
    [
      ['iss', (origin: string) => `${origin}/`],
      ['iss', (origin: string) => origin.replace('http', 'HTTP')],
      ['iss', (origin: string) => [origin]],
      ['aud', () => 'millpond-evil'],
      ['aud', () => 'Millpond'],
      ['aud', () => []],
      ['aud', () => ['millpond ', 'mill']],
      ['sub', () => undefined],
      ['sub', () => ''],
      ['sub', () => 7],
      ['sub', () => ['system:serviceaccount:ci:builder']],
      ['exp', () => 'tomorrow'],
      ['exp', () => null],
      ['nbf', () => 'yesterday'],
    ] as const
  ).map(
    ([claim, value]) =>
      [
        `${claim} as ${JSON.stringify(value('http://issuer'))}`,
        401,
        ({ state }: Issuer) =>
          byKey({ alg: 'ES256', kid: 'one' }, { ...claims(state), [claim]: value(state.origin) }, keyOf(state)),
      ] as const,
  ),
];

describe('an issuer', () => {
  const owned = new AsyncDisposableStack();
  const setting = {} as {
    trap: Awaited<ReturnType<typeof startTrap>>;
    issuer: Issuer;
    status: Awaited<ReturnType<typeof startIssuerSite>>['status'];
  };
  beforeAll(async () => {
    setting.trap = await startTrap(owned);
    setting.issuer = await startIssuer(owned);
    setting.status = (await startIssuerSite(owned, setting.issuer)).status;
  });
  afterAll(() => owned.disposeAsync());

  test.each(attempts)('and a token with %s: %i', async (_, wanted, make) => {
    const { trap, issuer, status } = setting;
    const token = await make(issuer, trap.url);
    expect([await status(basic('x', token)), await status(bearer(token))]).toEqual([wanted, wanted]);
    expect([trap.asked, issuer.problems]).toEqual([[], []]);
  });
});

test('a shared secret among the keys of an issuer signs nothing', async () => {
  await using stack = new AsyncDisposableStack();
  const issuer = await startIssuer(stack);
  const { state } = issuer;
  state.keys = [{ ...state.keys[0]!, jwk: { kty: 'oct', k: 'c2VjcmV0', kid: 'one', alg: 'HS256' } }];
  const { status } = await startIssuerSite(stack, issuer);
  expect(await status(bearer(byHash({ alg: 'HS256', kid: 'one' }, claims(state), 'secret')))).toBe(401);
});

test.each<[string, (issuer: Issuer) => void]>([
  ['names another issuer in its document', ({ state }) => (state.named = 'https://elsewhere.test')],
  ['answers with an error', ({ state }) => (state.failure = { status: 500, body: {} })],
  ['answers with something else', ({ state }) => (state.failure = { status: 200, body: 'a page' })],
  ['answers with a redirect', ({ state }) => (state.failure = { status: 302, body: {} })],
  ['answers without end', ({ state }) => (state.failure = { status: 200, body: { keys: 'x'.repeat(2_000_000) } })],
])('an issuer that %s does not make a right token wrong', async (_, change) => {
  await using stack = new AsyncDisposableStack();
  const issuer = await startIssuer(stack);
  const { status } = await startIssuerSite(stack, issuer);
  change(issuer);
  expect(await status(basic('x', await sign(issuer)))).toBe(503);
});

test('keys that could not be renewed for a day count no more', async () => {
  await using stack = new AsyncDisposableStack();
  const clock = { nowMs: Date.now() };
  const issuer = await startIssuer(stack);
  const { status } = await startIssuerSite(stack, issuer, { now: () => clock.nowMs });
  const later = (jti: string) => sign(issuer, { jti, exp: seconds() + 3 * 86_400 });
  expect(await status(basic('x', await later('1')))).toBe(200);
  issuer.state.isDown = true;
  clock.nowMs += 23 * 3_600_000;
  expect(await status(basic('x', await later('2')))).toBe(200);
  clock.nowMs += 2 * 3_600_000;
  expect(await status(basic('x', await later('3')))).toBe(503);
});

type State = Issuer['state'];

function seconds(): number {
  return Math.floor(Date.now() / 1000);
}

function claims({ origin }: State): Fields {
  return {
    iss: origin,
    aud: 'millpond',
    exp: seconds() + 600,
    sub: 'system:serviceaccount:ci:builder',
    'kubernetes.io': { namespace: 'ci' },
  };
}

function keyOf({ keys }: State): KeyObject {
  return keys[0]!.privateKey;
}

function publicKeyOf({ keys }: State, format: 'pem' | 'der'): Buffer {
  const { jwk } = keys[0]!;
  const { x, y } = jwk as { x: string; y: string };
  const point = Buffer.concat([Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')]);
  const der = Buffer.concat([Buffer.from('3059301306072a8648ce3d020106082a8648ce3d03010703420004', 'hex'), point]);
  if (format === 'der') return der;
  return Buffer.from(
    `-----BEGIN PUBLIC KEY-----\n${der.toString('base64').replace(/(.{64})/g, '$1\n')}\n-----END PUBLIC KEY-----\n`,
  );
}
