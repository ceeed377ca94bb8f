import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { type JWK, SignJWT } from 'jose';
import { expect, test } from 'vitest';
import { startRegistry } from '../support/registry.ts';
import { startTestSite, temporaryFolder } from '../support/site.ts';
import { basic, bearer, tokenOf } from './support.ts';

interface SigningKey {
  readonly privateKey: KeyObject;
  readonly jwk: JWK;
}

function signingKey(kid: string): SigningKey {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { privateKey, jwk: { ...(publicKey.export({ format: 'jwk' }) as JWK), kid, alg: 'ES256', use: 'sig' } };
}

interface Review {
  readonly authenticated: boolean;
  readonly audiences?: readonly string[];
}

/** An issuer that is an API server too, as strict about what it is asked as the real ones. */
async function startIssuer(stack: AsyncDisposableStack) {
  const asked: string[] = [];
  const problems: string[] = [];
  const state = { keys: [signingKey('one')], isDown: false, review: { authenticated: true } as Review, origin: '' };
  const server = createServer((request, response) => {
    const { method, url, headers } = request;
    asked.push(`${method} ${url}`);
    const send = (status: number, body: unknown): void => {
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    };
    if (state.isDown) return void response.destroy();
    if (headers['authorization'] !== 'Bearer own-token') {
      problems.push(`${url} without the pod's own token`);
      return send(401, { kind: 'Status', code: 401 });
    }
    if (url === '/.well-known/openid-configuration') {
      return send(200, { issuer: state.origin, jwks_uri: `${state.origin}/openid/v1/jwks` });
    }
    if (url === '/openid/v1/jwks') return send(200, { keys: state.keys.map(({ jwk }) => jwk) });
    if (url !== '/apis/authentication.k8s.io/v1/tokenreviews' || method !== 'POST') return send(404, {});
    return void text(request).then((body) => {
      const review = JSON.parse(body) as Record<string, unknown>;
      const { apiVersion, kind, spec, ...rest } = review;
      const { token, audiences } = spec as { token: unknown; audiences: unknown };
      const isWellFormed =
        apiVersion === 'authentication.k8s.io/v1' &&
        kind === 'TokenReview' &&
        Object.keys(rest).length === 0 &&
        typeof token === 'string' &&
        JSON.stringify(audiences) === '["millpond"]' &&
        headers['content-type'] === 'application/json';
      if (!isWellFormed) problems.push(`a review that is none: ${body}`);
      const { authenticated, audiences: good = ['millpond'] } = state.review;
      const user = { username: 'system:serviceaccount:ci:builder', groups: ['system:serviceaccounts:ci'] };
      send(201, { ...review, status: authenticated ? { authenticated, user, audiences: good } : { authenticated } });
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  stack.defer(() => new Promise<void>((resolve) => void server.close(() => resolve())));
  state.origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { state, asked, problems };
}

type Issuer = Awaited<ReturnType<typeof startIssuer>>;

function sign(
  { state }: Issuer,
  claims: Readonly<Record<string, unknown>> = {},
  key = state.keys[0]!,
): Promise<string> {
  const all = { sub: 'system:serviceaccount:ci:builder', 'kubernetes.io': { namespace: 'ci' }, ...claims };
  const made = new SignJWT(all).setProtectedHeader({ alg: 'ES256', kid: String(key.jwk.kid) });
  if (!('iss' in claims)) made.setIssuer(state.origin);
  if (!('aud' in claims)) made.setAudience('millpond');
  if (!('exp' in claims)) made.setExpirationTime('10m');
  return made.sign(key.privateKey);
}

async function startSite(
  stack: AsyncDisposableStack,
  issuer: Issuer,
  more: Readonly<Record<string, unknown>> & { readonly now?: () => number } = {},
) {
  const folder = stack.use(await temporaryFolder());
  const tokenFile = join(folder.path, 'token');
  await writeFile(tokenFile, 'own-token\n');
  const registry = stack.use(await startRegistry());
  const blob = registry.addBlob({ size: 100, seed: 'one' });
  const { now, ...settings } = more;
  const config = {
    auth: {
      issuers: [{ issuer: issuer.state.origin, audience: 'millpond', tokenFile, prefix: 'k8s:', ...settings }],
      policies: [
        {
          users: ['k8s:system:serviceaccount:ci:*'],
          claims: ['kubernetes.io.namespace=ci'],
          repositories: ['registry.test/{claim.kubernetes.io.namespace}/**'],
        },
      ],
    },
  };
  const site = stack.use(
    await startTestSite({ upstreams: { 'registry.test': registry }, config, ...(now && { now }) }),
  );
  const status = async (headers: Readonly<Record<string, string>>, repository = 'ci/app'): Promise<number> =>
    (await site.get(`/v2/registry.test/${repository}/blobs/${blob.digest}`, { headers })).status;
  return { site, status };
}

test('a service-account token is taken as a password, as a bearer token, and at the token service', async () => {
  await using stack = new AsyncDisposableStack();
  const issuer = await startIssuer(stack);
  const { site, status } = await startSite(stack, issuer);
  const token = await sign(issuer);
  const own = await tokenOf(
    site,
    'repository:registry.test/ci/app:pull repository:registry.test/x/app:pull',
    basic('x', token),
  );
  for (const headers of [basic('anyone', token), bearer(token), bearer(own)]) {
    expect(await status(headers)).toBe(200);
    expect(await status(headers, 'x/app')).toBe(403);
  }
  expect(issuer.problems).toEqual([]);
  expect(JSON.stringify(site.logLines)).not.toContain(token.slice(-40));
});

test('a token that is not for this mirror, has expired, has no end, or is signed by another is refused', async () => {
  await using stack = new AsyncDisposableStack();
  const issuer = await startIssuer(stack);
  const { status } = await startSite(stack, issuer);
  const seconds = Math.floor(Date.now() / 1000);
  const stranger = { ...signingKey('one') };
  const wrong = [
    await sign(issuer, { aud: 'https://kubernetes.default.svc' }),
    await sign(issuer, { exp: seconds - 120 }),
    await sign(issuer, { exp: undefined }),
    await sign(issuer, { iss: 'https://elsewhere.test' }),
    await sign(issuer, {}, stranger),
    `${(await sign(issuer)).split('.').slice(0, 2).join('.')}.`,
  ];
  for (const token of wrong) expect(await status(basic('x', token))).toBe(401);
});

test('keys that are rotated are asked for again, and known ones are used while the issuer is away', async () => {
  await using stack = new AsyncDisposableStack();
  let nowMs = Date.now();
  const issuer = await startIssuer(stack);
  const { status } = await startSite(stack, issuer, { now: () => nowMs });
  expect(await status(basic('x', await sign(issuer)))).toBe(200);
  issuer.state.isDown = true;
  expect(await status(basic('x', await sign(issuer, { jti: '2' })))).toBe(200);
  issuer.state.isDown = false;
  const [former] = issuer.state.keys;
  const next = signingKey('two');
  issuer.state.keys = [next];
  const rotated = basic('x', await sign(issuer, {}, next));
  const outgoing = basic('x', await sign(issuer, { jti: '3' }, former));
  // An unknown key makes the mirror ask again, but not with every token.
  expect(await status(rotated)).toBe(401);
  nowMs += 31_000;
  expect(await status(rotated)).toBe(200);
  expect(await status(outgoing)).toBe(401);
  expect(issuer.asked.filter((one) => one.endsWith('jwks'))).toHaveLength(2);
});

test('an issuer that cannot be asked is not taken for a wrong token', async () => {
  await using stack = new AsyncDisposableStack();
  const issuer = await startIssuer(stack);
  const { status } = await startSite(stack, issuer);
  issuer.state.isDown = true;
  const token = await sign(issuer);
  expect(await status(basic('x', token))).toBe(503);
  issuer.state.isDown = false;
  expect(await status(basic('x', token))).toBe(200);
});

test('the API server is asked about each token where that is configured, and what it says counts', async () => {
  await using stack = new AsyncDisposableStack();
  const issuer = await startIssuer(stack);
  const { status } = await startSite(stack, issuer, { tokenReview: issuer.state.origin });
  expect(await status(basic('x', await sign(issuer)))).toBe(200);
  issuer.state.review = { authenticated: false };
  expect(await status(basic('x', await sign(issuer, { jti: '2' })))).toBe(401);
  issuer.state.review = { authenticated: true, audiences: ['other'] };
  expect(await status(basic('x', await sign(issuer, { jti: '3' })))).toBe(401);
  expect(issuer.problems).toEqual([]);
  expect(new Set(issuer.asked)).toEqual(new Set(['POST /apis/authentication.k8s.io/v1/tokenreviews']));
});

test('keys in a file need no network, and are read again', async () => {
  await using stack = new AsyncDisposableStack();
  const issuer = await startIssuer(stack);
  const folder = stack.use(await temporaryFolder());
  const jwksFile = join(folder.path, 'jwks.json');
  const put = (...keys: readonly SigningKey[]) =>
    writeFile(jwksFile, JSON.stringify({ keys: keys.map(({ jwk }) => jwk) }));
  await put(issuer.state.keys[0]!);
  const { status } = await startSite(stack, issuer, { jwksFile });
  const token = basic('x', await sign(issuer));
  expect(await status(token)).toBe(200);
  const next = signingKey('two');
  await put(next);
  const rotated = basic('x', await sign(issuer, {}, next));
  await expect.poll(() => status(rotated), { timeout: 10_000, interval: 500 }).toBe(200);
  expect(await status(token)).toBe(401);
  expect(issuer.asked).toEqual([]);
});
