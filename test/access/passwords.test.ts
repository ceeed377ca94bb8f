import { appendFile, writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { localImage } from '../support/images.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite, type TestSite, temporaryFolder } from '../support/site.ts';
import { basic, htpasswdFile, htpasswdLine } from './support.ts';

const users = { ann: 'a-secret', bob: 'b-secret' };

/** A mirror of one registry with two users. */
async function startAccessSite(stack: AsyncDisposableStack, auth: Readonly<Record<string, unknown>> = {}) {
  const folder = stack.use(await temporaryFolder());
  const file = await htpasswdFile(folder.path, users);
  const registry = stack.use(await startRegistry());
  const blob = registry.addBlob({ size: 100, seed: 'one' });
  const config = (more: Readonly<Record<string, unknown>> = auth) => ({
    auth: { htpasswdFile: file, ...more },
    hosted: { repositories: ['local/**'] },
  });
  const site: TestSite = stack.use(await startTestSite({ upstreams: { 'registry.test': registry }, config: config() }));
  return { site, file, blob, config, path: `/v2/registry.test/app/blobs/${blob.digest}`, registry };
}

test('a user with the right password pulls; all others get the same 401 with a challenge of our own', async () => {
  await using stack = new AsyncDisposableStack();
  const { site, path } = await startAccessSite(stack);
  for (const target of ['/v2/', path]) {
    expect((await site.get(target, { headers: basic('ann', 'a-secret') })).status).toBe(200);
    const refused = await Promise.all(
      [basic('ann', 'wrong'), basic('nobody', 'a-secret'), { authorization: 'Digest x' }].map((headers) =>
        site.get(target, { headers }),
      ),
    );
    for (const { status, headers, body } of refused) {
      expect(status).toBe(401);
      expect(headers['www-authenticate']).toMatch(/^B/);
      expect(body).toEqual(refused[0]!.body);
      expect(headers['www-authenticate']).toBe(refused[0]!.headers['www-authenticate']);
    }
    expect((await site.get(target)).status).toBe(401);
  }
});

test('policies decide, the first that matches; what is denied is the same whether it is here or not', async () => {
  await using stack = new AsyncDisposableStack();
  const { site, path, registry } = await startAccessSite(stack, {
    policies: [
      { users: ['ann'], repositories: ['registry.test/app'] },
      { users: ['ann'], repositories: ['registry.test/**'], effect: 'deny' },
      { users: ['*'], repositories: ['registry.test/other'] },
    ],
  });
  const [ann, bob] = [basic('ann', 'a-secret'), basic('bob', 'b-secret')];
  expect((await site.get(path, { headers: ann })).status).toBe(200);
  const before = registry.requests.length;
  const held = await site.get(path, { headers: bob });
  const notHeld = await site.get(path.replace(/[0-9a-f]{4}$/, 'abcd'), { headers: bob });
  const elsewhere = await site.get(path.replace('/app/', '/other/'), { headers: ann });
  const unknown = await site.get(path.replace('registry.test/', 'elsewhere.test/'), { headers: bob });
  for (const answer of [held, notHeld, elsewhere, unknown]) {
    expect(answer.status).toBe(403);
    expect(answer.body.toString()).toBe(held.body.toString());
    expect(JSON.parse(answer.body.toString())).toMatchObject({ errors: [{ code: 'DENIED' }] });
  }
  expect(registry.requests).toHaveLength(before);
});

test('an anonymous caller may do what a rule for it says, and is asked for credentials otherwise', async () => {
  await using stack = new AsyncDisposableStack();
  const { site, path, config } = await startAccessSite(stack, {
    anonymous: true,
    policies: [{ anonymous: true, repositories: ['registry.test/app'] }],
  });
  expect((await site.get(path)).status).toBe(200);
  expect((await site.get(path.replace('/app/', '/other/'))).status).toBe(401);
  // Wrong credentials are not taken for none.
  expect((await site.get(path, { headers: basic('ann', 'wrong') })).status).toBe(401);
  await site.reconfigure(config({ anonymous: false }));
  expect((await site.get(path)).status).toBe(401);
});

test('pushes, deletes and mounts need their own rights', async () => {
  await using stack = new AsyncDisposableStack();
  const { site } = await startAccessSite(stack, {
    policies: [
      { users: ['ann'], repositories: ['local/{user}/**'], actions: ['pull', 'push', 'delete'] },
      { users: ['bob'], repositories: ['local/bob/**'], actions: ['pull', 'push'] },
    ],
  });
  const image = localImage({ label: 'rights' });
  const [blob] = image.blobs;
  const [ann, bob] = [basic('ann', 'a-secret'), basic('bob', 'b-secret')];
  const begin = (repository: string, headers: Readonly<Record<string, string>>, query = '') =>
    site.get(`/v2/${repository}/blobs/uploads/${query}`, { method: 'POST', headers });
  expect((await begin('local/ann/app', bob)).status).toBe(403);
  expect((await begin('local/ann/app', {})).status).toBe(401);
  expect((await begin('local/ann/app', ann)).status).toBe(202);
  // A mount of what bob may not read looks as if it were not there.
  const mount = `?mount=${blob!.digest}&from=local/ann/app`;
  expect((await begin('local/bob/app', bob, mount)).status).toBe(202);
  const manifest = `/v2/local/bob/app/manifests/${image.digest}`;
  expect((await site.get(manifest, { method: 'DELETE', headers: bob })).status).toBe(403);
  expect((await site.get(manifest.replaceAll('bob', 'ann'), { method: 'DELETE', headers: ann })).status).toBe(404);
});

test('the file is read again when it changes, and one with a mistake changes nothing', async () => {
  await using stack = new AsyncDisposableStack();
  const { site, file } = await startAccessSite(stack);
  const status = async (user: string, password: string): Promise<number> =>
    (await site.get('/v2/', { headers: basic(user, password) })).status;
  await appendFile(file, htpasswdLine('cay', 'c-secret'));
  await expect.poll(() => status('cay', 'c-secret'), { interval: 500 }).toBe(200);
  await writeFile(file, `${htpasswdLine('ann', 'changed')}bob:plain\n`);
  await expect.poll(() => site.logLines.find(({ problem }) => String(problem).includes('line 2'))).toBeDefined();
  expect(JSON.stringify(site.logLines)).not.toContain('plain');
  expect(await status('bob', 'b-secret')).toBe(200);
  await writeFile(file, htpasswdLine('ann', 'changed'));
  await expect.poll(() => status('bob', 'b-secret'), { interval: 500 }).toBe(401);
  expect(await status('ann', 'a-secret')).toBe(401);
  expect(await status('ann', 'changed')).toBe(200);
});
