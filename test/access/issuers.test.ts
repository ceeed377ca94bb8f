import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { temporaryFolder } from '../support/site.ts';
import { type SigningKey, sign, signingKey, startIssuer, startIssuerSite } from './issuer.ts';
import { basic, bearer, tokenOf } from './support.ts';

test('a service-account token is taken as a password, as a bearer token, and at the token service', async () => {
  await using stack = new AsyncDisposableStack();
  const issuer = await startIssuer(stack);
  const { site, status } = await startIssuerSite(stack, issuer);
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
  const { status } = await startIssuerSite(stack, issuer);
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
  const { status } = await startIssuerSite(stack, issuer, { now: () => nowMs });
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
  const { status } = await startIssuerSite(stack, issuer);
  issuer.state.isDown = true;
  const token = await sign(issuer);
  expect(await status(basic('x', token))).toBe(503);
  issuer.state.isDown = false;
  expect(await status(basic('x', token))).toBe(200);
});

test('the API server is asked about each token where that is configured, and what it says counts', async () => {
  await using stack = new AsyncDisposableStack();
  const issuer = await startIssuer(stack);
  const { status } = await startIssuerSite(stack, issuer, { tokenReview: issuer.state.origin });
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
  const { status } = await startIssuerSite(stack, issuer, { jwksFile });
  const token = basic('x', await sign(issuer));
  expect(await status(token)).toBe(200);
  const next = signingKey('two');
  await put(next);
  const rotated = basic('x', await sign(issuer, {}, next));
  await expect.poll(() => status(rotated), { interval: 500 }).toBe(200);
  expect(await status(token)).toBe(401);
  expect(issuer.asked).toEqual([]);
});
