import { expect, test } from 'vitest';
import { basic, htpasswdFile } from '../access/support.ts';
import { json, type Reply } from '../support/client.ts';
import { startRegistry } from '../support/registry.ts';
import { makeSearchCache } from '../support/search-cache.ts';
import { startTestSite, temporaryFolder } from '../support/site.ts';

const [ann, bob] = [basic('ann', 'a-secret'), basic('bob', 'b-secret')];
const namesOf = (reply: Reply): string[] => json<{ repositories: string[] }>(reply).repositories;

/** A mirror with images of several repositories, of which each user may see its own. */
async function startSharedSite(stack: AsyncDisposableStack) {
  const folder = stack.use(await temporaryFolder());
  const registry = stack.use(await startRegistry());
  const file = await htpasswdFile(folder.path, { ann: 'a-secret', bob: 'b-secret' });
  const cacheDir = `${folder.path}/cache`;
  const upstreams = { 'registry.test': registry };
  const names = ['ann/a', 'ann/b', 'bob/a', 'shared/a', 'shared/b'];
  for (const name of names) registry.addImage(name, '1', { layers: [name] });
  {
    await using open = await startTestSite({ upstreams, cacheDir });
    for (const name of names) await open.get(`/v2/registry.test/${name}/manifests/1`);
  }
  const policies = [
    { users: ['*'], repositories: ['registry.test/{user}/**', 'registry.test/shared/**'], actions: ['pull', 'search'] },
  ];
  return stack.use(
    await startTestSite({ upstreams, cacheDir, config: { auth: { htpasswdFile: file, anonymous: false, policies } } }),
  );
}

test('the catalog lists to each caller only what it may search, in full pages', async () => {
  await using stack = new AsyncDisposableStack();
  const site = await startSharedSite(stack);
  const own = ['registry.test/ann/a', 'registry.test/ann/b', 'registry.test/shared/a', 'registry.test/shared/b'];
  expect(namesOf(await site.get('/v2/_catalog', { headers: ann }))).toEqual(own);
  const page = await site.get('/v2/_catalog?n=2&last=registry.test/ann/b', { headers: ann });
  expect(namesOf(page)).toEqual(own.slice(2));
  expect(page.headers.link).toBeUndefined();
  expect(namesOf(await site.get('/v2/_catalog?ns=registry.test', { headers: bob }))).toEqual([
    'bob/a',
    'shared/a',
    'shared/b',
  ]);
});

test('a caller that shows nothing gets a challenge, and one without rights is not told what there is', async () => {
  await using stack = new AsyncDisposableStack();
  const site = await startSharedSite(stack);
  for (const path of ['/v2/_catalog', '/v2/_oci/ext/discover', '/v2/registry.test/ann/a/_oci/ext/discover']) {
    const reply = await site.get(path);
    expect(reply.status, path).toBe(401);
    expect(reply.headers['www-authenticate']).toMatch(/^Bearer /);
  }
  const refused = await site.get('/v2/registry.test/ann/a/_oci/ext/discover', { headers: bob });
  const nothing = await site.get('/v2/registry.test/ann/nothing/_oci/ext/discover', { headers: bob });
  const nowhere = await site.get('/v2/app/_oci/ext/discover?ns=elsewhere.test', { headers: bob });
  for (const reply of [refused, nothing, nowhere]) {
    expect(reply.status).toBe(403);
    expect(json(reply)).toEqual(json(refused));
  }
  expect((await site.get('/v2/registry.test/ann/a/_oci/ext/discover', { headers: ann })).status).toBe(200);
});

test('a search finds for each caller only what it may search, in full pages', async () => {
  await using stack = new AsyncDisposableStack();
  const site = await startSharedSite(stack);
  const found = async (query: string, headers: typeof ann) => {
    const reply = await site.get(`/v2/_millpond/search?${query}`, { headers });
    const { results, next } = json<{ results: { repository: string }[]; next?: string }>(reply);
    return { names: results.map(({ repository }) => repository), next };
  };
  await expect.poll(async () => (await found('', ann)).names).toHaveLength(4);
  expect(await found('', bob)).toEqual({
    names: ['registry.test/bob/a', 'registry.test/shared/a', 'registry.test/shared/b'],
    next: undefined,
  });
  const first = await found('n=2', bob);
  expect(first.names).toEqual(['registry.test/bob/a', 'registry.test/shared/a']);
  expect((await found(`n=2&next=${first.next}`, bob)).names).toEqual(['registry.test/shared/b']);
  const [secret] = (await found('q=ann', ann)).names;
  expect(secret).toBe('registry.test/ann/a');
  expect(await found('q=ann', bob)).toEqual({ names: [], next: undefined });
  expect((await site.get('/v2/registry.test/ann/a/_millpond/search', { headers: bob })).status).toBe(403);
});

test('content of an upstream that decides itself who may read it is not shown', async () => {
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await temporaryFolder());
  const registry = stack.use(await startRegistry());
  const image = registry.addImage('team/app', '1');
  const cacheDir = `${folder.path}/cache`;
  {
    await using open = await startTestSite({ upstreams: { 'private.test': registry }, cacheDir });
    await open.get('/v2/private.test/team/app/manifests/1');
  }
  const file = await htpasswdFile(folder.path, { ann: 'a-secret' });
  const site = stack.use(
    await startTestSite({
      upstreams: { 'private.test': { urls: [registry.origin], access: 'caller' } },
      config: { auth: { htpasswdFile: file } },
      cacheDir,
    }),
  );
  expect(namesOf(await site.get('/v2/_catalog', { headers: ann }))).toEqual([]);
  const search = await site.get('/v2/_millpond/search', { headers: ann });
  expect(json(search)).toMatchObject({ results: [] });
  for (const reference of ['1', image.digest, 'none']) {
    const reply = await site.get(`/v2/private.test/team/app/_millpond/images/${reference}`, { headers: ann });
    expect(reply.status).toBe(403);
  }
});

test('no page of a search tells where it is in the middle of what a caller may not know', async () => {
  await using folder = await temporaryFolder();
  const cacheDir = `${folder.path}/cache`;
  const { repositories } = await makeSearchCache(cacheDir, 1_500, { imagesPerRepository: 1 });
  const last = `docker.io/${repositories.toSorted().at(-1)}`;
  const file = await htpasswdFile(folder.path, { ann: 'a-secret', bob: 'b-secret' });
  const policies = [
    { users: ['ann'], actions: ['search'] },
    { users: ['bob'], repositories: [last], actions: ['search'] },
  ];
  await using site = await startTestSite({
    upstreams: { 'docker.io': { origin: 'http://127.0.0.1:1' } },
    config: { offline: true, auth: { htpasswdFile: file, policies } },
    cacheDir,
    keepsLog: false,
  });
  interface Page {
    readonly results: { readonly repository: string }[];
    readonly next?: string;
    readonly complete: boolean;
  }
  const search = async (query: string, headers: typeof ann) =>
    json<Page>(await site.get(`/v2/_millpond/search?sort=name&n=1${query}`, { headers }));
  await expect.poll(async () => (await search('', ann)).complete).toBe(true);
  // What is for bob comes behind all the rest.
  expect(await search('', bob)).toMatchObject({ results: [{ repository: last }], complete: true });
  const page = await search('', ann);
  expect(Buffer.from(page.next ?? '', 'base64url').toString()).toContain(page.results[0]!.repository);
  expect(Buffer.from((await search('', bob)).next ?? '', 'base64url').toString()).not.toMatch(/team-/);
});
