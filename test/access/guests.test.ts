import { expect, test } from 'vitest';
import { ociManifest } from '../../src/oci/media-types.ts';
import { send } from '../hosted/support.ts';
import { errorAnswer } from '../support/answers.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite, temporaryFolder } from '../support/site.ts';
import { basic, bearer, challengeOf, htpasswdFile, tokenOf } from './support.ts';

/** A registry that lets each of two users read a repository of their own, and a mirror before it. */
async function start(stack: AsyncDisposableStack) {
  const folder = stack.use(await temporaryFolder());
  const clock = { nowMs: Date.now() };
  const revoked = new Set<string>();
  const registry = stack.use(
    await startRegistry({
      instead({ path, headers }) {
        const shown = headers['authorization'] ?? '';
        const user = ['eve', 'fay'].find((one) => shown === basic(one, `pw of ${one}`).authorization);
        const challenge = { 'WWW-Authenticate': 'Basic realm="its own"' };
        if (user === undefined || revoked.has(user)) return errorAnswer(401, 'UNAUTHORIZED', challenge);
        return path === '/v2/' || path.startsWith(`/v2/${user}/`) ? undefined : errorAnswer(403, 'DENIED');
      },
    }),
  );
  const open = stack.use(await startRegistry());
  const image = registry.addImage('eve/app', 'v1', { layers: [{ size: 1_000, seed: 'secret' }] });
  const elsewhere = open.addBlob({ size: 100, seed: 'open' });
  const file = await htpasswdFile(folder.path, { ann: 'a-secret' });
  const site = stack.use(
    await startTestSite({
      upstreams: { 'private.test': { urls: [registry.origin], access: 'caller' }, 'open.test': open },
      config: { auth: { htpasswdFile: file } },
      now: () => clock.nowMs,
    }),
  );
  const scope = 'repository:private.test/eve/app:pull';
  const tokenFor = (user: string, password = `pw of ${user}`) => tokenOf(site, scope, basic(user, password));
  const accept = { accept: ociManifest };
  const manifest = async (token: string) =>
    await site.get('/v2/private.test/eve/app/manifests/v1', { headers: { ...accept, ...bearer(token) } });
  return { site, registry, image, elsewhere, clock, revoked, tokenFor, manifest, scope };
}

test("a caller's own credentials open what the upstream gives it, and nothing else", async () => {
  await using stack = new AsyncDisposableStack();
  const { site, image, elsewhere, tokenFor, manifest } = await start(stack);
  const eve = await tokenFor('eve');
  expect(await manifest(eve)).toMatchObject({ status: 200, sha256: image.digest });
  const blob = `/v2/private.test/eve/app/blobs/${image.layers[0]!.digest}`;
  expect((await site.get(blob, { headers: bearer(eve) })).status).toBe(200);
  // All of it is stored now, and still it is the upstream that decides.
  for (const token of [await tokenFor('fay'), await tokenFor('eve', 'wrong')]) {
    expect((await manifest(token)).status).toBe(403);
    expect((await site.get(blob, { headers: bearer(token) })).status).toBe(403);
    expect((await site.get(blob, { method: 'HEAD', headers: bearer(token) })).status).toBe(403);
  }
  // This mirror shows nothing about an image, since only the upstream knows who may read it.
  for (const headers of [bearer(eve), bearer(await tokenFor('eve', 'wrong')), basic('ann', 'a-secret')]) {
    const details = await site.get('/v2/private.test/eve/app/_millpond/images/v1', { headers });
    const named = await site.get('/v2/_millpond/images/private.test/eve/app:v1', { headers });
    for (const { status, body } of [details, named]) {
      expect([401, 403, 404]).toContain(status);
      expect(body.toString()).not.toContain(image.layers[0]!.digest);
    }
  }
  const others = await tokenOf(
    site,
    'repository:private.test/x:pull repository:open.test/app:pull',
    basic('eve', 'pw of eve'),
  );
  expect((await site.get(`/v2/open.test/app/blobs/${elsewhere.digest}`, { headers: bearer(others) })).status).toBe(403);
  const catalog = await site.get('/v2/_catalog', { headers: basic('ann', 'a-secret') });
  expect(catalog.body.toString()).not.toContain('private.test');
});

test('a yes of the upstream holds for a minute', async () => {
  await using stack = new AsyncDisposableStack();
  const { registry, clock, revoked, tokenFor, manifest } = await start(stack);
  const eve = await tokenFor('eve');
  expect((await manifest(eve)).status).toBe(200);
  const before = registry.requests.length;
  expect((await manifest(eve)).status).toBe(200);
  expect(registry.requests).toHaveLength(before);
  revoked.add('eve');
  clock.nowMs += 61_000;
  expect((await manifest(eve)).status).toBe(403);
});

test('credentials of this mirror never go to the upstream, and those of an upstream to no other', async () => {
  await using stack = new AsyncDisposableStack();
  const { site, registry, tokenFor, manifest, scope } = await start(stack);
  const ann = await tokenFor('ann', 'a-secret');
  const refused = await manifest(ann);
  expect(refused.status).toBe(401);
  expect(challengeOf(refused)).toMatchObject({ scope, error: 'insufficient_scope' });
  expect((await site.get(`/token?scope=${scope}`, { headers: basic('ann', 'wrong') })).status).toBe(401);
  expect(registry.requests).toEqual([]);
  const eve = await tokenFor('eve');
  await manifest(eve);
  const body = `grant_type=password&username=eve&password=pw+of+eve&scope=${scope}`;
  const headers = { 'content-type': 'application/x-www-form-urlencoded' };
  expect((await send(site, ['POST', '/token'], { headers, body })).status).toBe(200);
  // Without a scope that names the upstream they are no credentials of anything.
  expect((await site.get('/token', { headers: basic('eve', 'pw of eve') })).status).toBe(401);
  const written = JSON.stringify([site.logLines, eve]);
  for (const secret of ['pw of eve', 'a-secret', Buffer.from('eve:pw of eve').toString('base64')]) {
    expect(written).not.toContain(secret);
  }
  // A token can be read by anyone who has it: what is in it cannot.
  expect(Buffer.from(eve.split('.')[1]!, 'base64url').toString()).not.toContain('pw of');
});
