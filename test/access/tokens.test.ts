import { appendFile, writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { send } from '../hosted/support.ts';
import { startRegistry } from '../support/registry.ts';
import { type SiteOptions, startTestSite, type TestSite, temporaryFolder } from '../support/site.ts';
import { basic, bearer, challengeOf, htpasswdFile, htpasswdLine, tokenOf } from './support.ts';

interface Setting {
  readonly site: TestSite;
  readonly path: string;
  readonly file: string;
  readonly registry: { readonly origin: string };
}

async function start(
  stack: AsyncDisposableStack,
  { auth = {}, ...more }: { auth?: Readonly<Record<string, unknown>> } & Partial<SiteOptions> = {},
): Promise<Setting> {
  const folder = stack.use(await temporaryFolder());
  const file = await htpasswdFile(folder.path, { ann: 'a-secret', bob: 'b-secret' });
  const registry = stack.use(await startRegistry());
  const blob = registry.addBlob({ size: 100, seed: 'one' });
  const config = { auth: { htpasswdFile: file, ...auth }, hosted: { repositories: ['local/**'] } };
  const site = stack.use(await startTestSite({ upstreams: { 'registry.test': registry }, config, ...more }));
  return { site, path: `/v2/registry.test/app/blobs/${blob.digest}`, file, registry };
}

const ann = basic('ann', 'a-secret');
const form = { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' };

test('the challenge names a realm at the address that the client uses, and no scope at /v2/', async () => {
  await using stack = new AsyncDisposableStack();
  const { site, path } = await start(stack);
  expect(challengeOf(await site.get('/v2/'))).toEqual({ realm: `${site.origin}/token`, service: 'millpond' });
  expect(challengeOf(await site.get(path))).toEqual({
    realm: `${site.origin}/token`,
    service: 'millpond',
    scope: 'repository:registry.test/app:pull',
  });
  const forwarded = { 'x-forwarded-proto': 'https', 'x-forwarded-host': 'mirror.test' };
  expect(challengeOf(await site.get('/v2/', { headers: forwarded }))).toMatchObject({
    realm: 'https://mirror.test/token',
  });
  const odd = { 'x-forwarded-host': 'mirror.test"evil', host: 'other.test:5000' };
  expect(challengeOf(await site.get('/v2/', { headers: odd }))).toMatchObject({
    realm: 'http://other.test:5000/token',
  });
});

test('with auth.url, that is the realm whatever the request says', async () => {
  await using stack = new AsyncDisposableStack();
  const { site } = await start(stack, { auth: { url: 'https://mirror.example' } });
  expect(challengeOf(await site.get('/v2/'))).toMatchObject({ realm: 'https://mirror.example/token' });
});

test('a token by GET or by POST opens what it was asked for, and nothing else', async () => {
  await using stack = new AsyncDisposableStack();
  const { site, path } = await start(stack);
  const scope = 'repository:registry.test/app:pull';
  const byGet = await site.get(`/token?service=millpond&scope=${scope}&account=ann`, { headers: ann });
  const body = `grant_type=password&service=millpond&client_id=containerd-client&username=ann&password=a-secret&scope=${scope}%20repository:library/x:pull,push`;
  const byPost = await send(site, ['POST', '/token'], { headers: form, body });
  for (const answer of [byGet, byPost]) {
    expect(answer.status).toBe(200);
    expect(answer.headers['cache-control']).toBe('no-store');
    const content = JSON.parse(answer.body.toString()) as Record<string, unknown>;
    expect(content).toEqual({ token: expect.any(String), access_token: content['token'], expires_in: 300 });
    const headers = bearer(String(content['token']));
    expect((await site.get('/v2/', { headers })).status).toBe(200);
    expect((await site.get(path, { headers })).status).toBe(200);
    const other = await site.get(path.replace('/app/', '/other/'), { headers });
    expect(other.status).toBe(401);
    expect(challengeOf(other)).toMatchObject({
      scope: 'repository:registry.test/other:pull',
      error: 'insufficient_scope',
    });
  }
});

test('a token without a scope passes /v2/ alone', async () => {
  await using stack = new AsyncDisposableStack();
  const { site, path } = await start(stack);
  const headers = bearer(await tokenOf(site, '', ann));
  expect((await site.get('/v2/', { headers })).status).toBe(200);
  expect((await site.get(path, { headers })).status).toBe(401);
});

test('wrong credentials get 401 by GET and POST; a token that is not ours is invalid', async () => {
  await using stack = new AsyncDisposableStack();
  const { site, path } = await start(stack);
  const wrong = basic('ann', 'wrong');
  expect((await site.get('/token', { headers: wrong })).status).toBe(401);
  const body = 'grant_type=password&username=ann&password=wrong';
  expect((await send(site, ['POST', '/token'], { headers: form, body })).status).toBe(401);
  expect((await send(site, ['POST', '/token'], { headers: form, body: 'grant_type=other' })).status).toBe(400);
  expect((await site.get('/token')).status).toBe(401);
  const token = await tokenOf(site, 'repository:registry.test/app:pull', ann);
  const forged = [token.slice(0, -3), `${token}x`, token.replace(/^[^.]+/, 'eyJhbGciOiJub25lIn0'), 'x'];
  for (const one of forged) {
    const answer = await site.get(path, { headers: bearer(one) });
    expect(answer.status).toBe(401);
    expect(challengeOf(answer)).toMatchObject({ error: 'invalid_token' });
  }
});

test('anonymous callers get tokens where they are let in', async () => {
  await using stack = new AsyncDisposableStack();
  const policies = [
    { anonymous: true, repositories: ['registry.test/app'] },
    { users: ['ann'], repositories: ['**'] },
  ];
  const { site, path } = await start(stack, { auth: { anonymous: true, policies } });
  expect((await site.get('/v2/')).status).toBe(401);
  const scope = 'repository:registry.test/app:pull repository:registry.test/other:pull';
  const headers = bearer(await tokenOf(site, scope, {}));
  expect((await site.get('/v2/', { headers })).status).toBe(200);
  expect((await site.get(path, { headers })).status).toBe(200);
  expect((await site.get(path.replace('/app/', '/other/'), { headers })).status).toBe(401);
  const known = bearer(await tokenOf(site, scope, ann));
  expect((await site.get(path.replace('/app/', '/other/'), { headers: known })).status).toBe(200);
});

test('a token ends with its time, and with the password that it was given for', async () => {
  await using stack = new AsyncDisposableStack();
  let nowMs = Date.now();
  const { site, path, file } = await start(stack, { now: () => nowMs });
  const scope = 'repository:registry.test/app:pull';
  const first = bearer(await tokenOf(site, scope, ann));
  expect((await site.get(path, { headers: first })).status).toBe(200);
  nowMs += 300_000 + 61_000;
  expect((await site.get(path, { headers: first })).status).toBe(401);
  const second = bearer(await tokenOf(site, scope, ann));
  expect((await site.get(path, { headers: second })).status).toBe(200);
  await writeFile(file, htpasswdLine('ann', 'changed'));
  await expect.poll(async () => (await site.get(path, { headers: second })).status, { interval: 500 }).toBe(401);
});

test('a refresh token gives tokens until the password changes, and is no token itself', async () => {
  await using stack = new AsyncDisposableStack();
  const { site, path, file } = await start(stack, { auth: { refreshTokenExpiry: '30d' } });
  const login = await site.get('/token?service=millpond&offline_token=true&client_id=docker&account=ann', {
    headers: ann,
  });
  const { refresh_token: refresh } = JSON.parse(login.body.toString()) as { refresh_token: string };
  const body = `grant_type=refresh_token&service=millpond&refresh_token=${refresh}&scope=repository:registry.test/app:pull`;
  const renewed = await send(site, ['POST', '/token'], { headers: form, body });
  expect(renewed.status).toBe(200);
  const { access_token: token } = JSON.parse(renewed.body.toString()) as { access_token: string };
  expect((await site.get(path, { headers: bearer(token) })).status).toBe(200);
  expect((await site.get('/v2/', { headers: bearer(refresh) })).status).toBe(401);
  const asAccess = body.replace(refresh, token);
  expect((await send(site, ['POST', '/token'], { headers: form, body: asAccess })).status).toBe(401);
  await appendFile(file, htpasswdLine('cay', 'c'));
  await writeFile(file, htpasswdLine('ann', 'changed'));
  await expect
    .poll(async () => (await send(site, ['POST', '/token'], { headers: form, body })).status, {
      interval: 500,
    })
    .toBe(401);
});

test('tokens outlive a restart, and no other mirror takes them', async () => {
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await temporaryFolder());
  const first = await start(stack, { cacheDir: folder.path });
  const headers = bearer(await tokenOf(first.site, 'repository:registry.test/app:pull', ann));
  const other = await start(stack);
  expect((await other.site.get('/v2/', { headers })).status).toBe(401);
  await first.site.stop();
  const config = { auth: { htpasswdFile: first.file } };
  const upstreams = { 'registry.test': first.registry };
  const again = stack.use(await startTestSite({ upstreams, config, cacheDir: folder.path }));
  expect((await again.get(first.path, { headers })).status).toBe(200);
});
