import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type Answer, send } from '../hosted/support.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite, type TestSite, temporaryFolder } from '../support/site.ts';
import { basic, bearer, htpasswdFile, tokenOf } from './support.ts';

const base = '/v2/registry.test/app/_millpond/administration';
const admin = basic('admin', 'x-secret');
const owner = basic('owner', 'o-secret');
const ann = basic('ann', 'a-secret');
const operations = ['fetch', 'purge', 'pin', 'unpin', 'verify'];

async function place({ listeners = {}, hasAuth = true }: { listeners?: object; hasAuth?: boolean } = {}) {
  await using owned = new AsyncDisposableStack();
  const folder = owned.use(await temporaryFolder());
  const registry = owned.use(await startRegistry());
  const image = registry.addImage('app', '1', { layers: [{ size: 50_000, seed: 'layer' }] });
  registry.addImage('other', '1', { layers: [{ size: 1_000, seed: 'other' }] });
  const users = { admin: 'x-secret', owner: 'o-secret', ann: 'a-secret' };
  const policies = [
    { users: ['admin'], actions: ['pull', 'push', 'search', 'administer'] },
    { users: ['owner'], repositories: ['registry.test/app'], actions: ['pull', 'administer'] },
    { users: ['ann'], actions: ['pull', 'search'] },
  ];
  const auditFile = join(folder.path, 'audit.log');
  const auth = hasAuth ? { auth: { htpasswdFile: await htpasswdFile(folder.path, users), policies } } : {};
  const config = { ...auth, log: { auditFile }, hosted: { repositories: ['local/**'] }, listeners };
  const site = owned.use(await startTestSite({ upstreams: { 'registry.test': registry }, config }));
  const rest = owned.move();
  return { site, image, registry, auditFile, [Symbol.asyncDispose]: () => rest.disposeAsync() };
}

/** The events of an operation, and how it ended. */
function linesOf({ status, headers, body }: Answer): { events: object[]; end: object } {
  expect([status, headers['content-type']]).toEqual([200, 'application/vnd.millpond.operation.v1+ndjson']);
  const lines = body.toString().trim().split('\n');
  const parsed = lines.map((line) => JSON.parse(line) as { event?: object });
  return { events: parsed.slice(0, -1).map(({ event }) => event!), end: parsed.at(-1)! };
}

const put = (site: TestSite, target: string, headers: Record<string, string>): Promise<Answer> =>
  send(site, ['PUT', `${base}/${target}`], { headers });

async function discovered(site: TestSite, headers: Record<string, string>, under = '/v2'): Promise<string[]> {
  const { body } = await send(site, ['GET', `${under}/_oci/ext/discover`], { headers });
  const { extensions } = JSON.parse(body.toString()) as { extensions: { endpoints: string[] }[] };
  const all = extensions.flatMap(({ endpoints }) => endpoints);
  return all
    .filter((endpoint) => endpoint.includes('/administration/'))
    .map((endpoint) => endpoint.slice(under.length));
}

test('a caller that may administer a repository fetches, pins, verifies and purges its images', async () => {
  await using here = await place();
  const { site, image } = here;
  for (const who of [owner, bearer(await tokenOf(site, 'repository:registry.test/app:pull,administer', owner))]) {
    const fetched = linesOf(await put(site, 'fetch?reference=1', who));
    expect(fetched.end).toEqual({ end: 'done' });
    expect(fetched.events.at(-1)).toMatchObject({ kind: 'end', fetched: 1, failed: 0 });
    const pinned = linesOf(await put(site, `pin?reference=1&reference=${image.digest}`, who));
    expect(pinned).toMatchObject({ events: [{ kind: 'pinned' }, { kind: 'pinned' }], end: { end: 'done' } });
    const kept = linesOf(await put(site, 'purge?reference=1', who));
    expect(kept.events).toMatchObject([{ kind: 'kept', isRefused: true }]);
    expect(linesOf(await put(site, `unpin?reference=1&reference=${image.digest}`, who)).events).toMatchObject([
      { kind: 'unpinned' },
      { kind: 'unpinned' },
    ]);
    expect(linesOf(await put(site, 'verify?reference=1', who)).events.at(-1)).toMatchObject({
      kind: 'end',
      findings: 0,
    });
    expect(linesOf(await put(site, 'purge?reference=1&dryRun=true', who)).events).toMatchObject([{ kind: 'removed' }]);
    expect(linesOf(await put(site, 'purge?reference=1', who)).events).toMatchObject([{ kind: 'removed' }]);
    expect(linesOf(await put(site, 'purge?reference=1', who)).events).toMatchObject([{ kind: 'kept' }]);
  }
  const failed = linesOf(await put(site, 'fetch?reference=missing', owner));
  expect(failed.events.at(-1)).toMatchObject({ kind: 'end', failed: 1 });
  await site.stop();
  const lines = (await readFile(here.auditFile, 'utf8')).trim().split('\n');
  const asked = lines.map((line) => JSON.parse(line) as object).filter((line) => 'operation' in line);
  expect(asked[0]).toMatchObject({
    event: 'operation requested',
    operation: 'fetch',
    caller: 'owner',
    address: '127.0.0.1',
    images: ['registry.test/app:1'],
  });
});

test('a caller that may administer the mirror sees downloads and replicas, and everything is in the documents', async () => {
  await using here = await place();
  const { site } = here;
  const get = (module: string, headers: Record<string, string>) =>
    send(site, ['GET', `/v2/_millpond/administration/${module}`], { headers });
  const [fills, replicas] = [await get('downloads', admin), await get('replicas', admin)];
  expect([fills.status, JSON.parse(fills.body.toString())]).toEqual([200, { downloads: [] }]);
  expect([replicas.status, JSON.parse(replicas.body.toString())]).toEqual([200, { replicas: null }]);
  const atMirror = ['/_millpond/administration/downloads', '/_millpond/administration/replicas'];
  const atRepository = operations.map((name) => `/_millpond/administration/${name}`);
  expect(await discovered(site, admin)).toEqual(atMirror);
  expect(await discovered(site, admin, '/v2/registry.test/app')).toEqual(atRepository);
  expect(await discovered(site, owner)).toEqual([]);
  expect(await discovered(site, owner, '/v2/registry.test/app')).toEqual(atRepository);
  const { body } = await send(site, ['GET', '/v2/_millpond/openapi'], { headers: admin });
  const { paths } = JSON.parse(body.toString()) as { paths: Record<string, Record<string, object>> };
  const documented = Object.entries(paths).filter(([path]) => path.includes('/administration/'));
  expect(documented.map(([path]) => path).toSorted()).toEqual(
    [...atMirror.map((path) => `/v2${path}`), ...atRepository.map((path) => `/v2/{name}${path}`)].toSorted(),
  );
  for (const [path, offered] of documented) {
    for (const method of ['get', 'head', 'put', 'post', 'patch', 'delete']) {
      const target = path.replace('{name}', 'registry.test/app');
      const { status } = await send(site, [method.toUpperCase(), target], { headers: admin });
      // Without a reference, an operation is answered with 400.
      const right = offered[method] === undefined ? 405 : method === 'put' ? 400 : 200;
      expect({ target, method, status }).toEqual({ target, method, status: right });
    }
  }
});

test('what chooses anything but images of the repository in the path is refused', async () => {
  await using here = await place();
  const { site } = here;
  for (const reference of ['*', '1@sha256:0', '>=1', '', '..%2Fother%3A1']) {
    const { status, body } = await put(site, `purge?reference=${reference}`, owner);
    expect([reference, status, body.toString()]).toEqual([reference, 400, expect.stringContaining('MANIFEST_INVALID')]);
  }
});

test('for a caller that may not administer, and for a hosted repository, it does not exist', async () => {
  await using here = await place();
  const { site } = here;
  const unknown = [404, expect.stringContaining('EXTENSION_UNKNOWN')];
  const expectUnknown = async (method: string, target: string, headers: Record<string, string>): Promise<void> => {
    const { status, body } = await send(site, [method, target], { headers });
    expect([status, body.toString()]).toEqual(unknown);
  };
  for (const name of operations) {
    await expectUnknown('PUT', `${base}/${name}?reference=1`, ann);
    await expectUnknown('PUT', `/v2/registry.test/other/_millpond/administration/${name}?reference=1`, owner);
    await expectUnknown('PUT', `/v2/local/app/_millpond/administration/${name}?reference=1`, admin);
    expect((await put(site, `${name}?reference=1`, {})).status).toBe(401);
  }
  for (const name of ['downloads', 'replicas']) {
    await expectUnknown('GET', `/v2/_millpond/administration/${name}`, ann);
    await expectUnknown('GET', `/v2/_millpond/administration/${name}`, owner);
    expect((await send(site, ['GET', `/v2/_millpond/administration/${name}`])).status).toBe(401);
  }
  expect(await discovered(site, ann)).toEqual([]);
  expect(await discovered(site, ann, '/v2/registry.test/app')).toEqual([]);
  // A token does not give more than it was asked for.
  const token = bearer(await tokenOf(site, 'repository:registry.test/app:pull', owner));
  expect((await put(site, 'purge?reference=1', token)).status).toBe(401);
  expect(here.registry.requests).toEqual([]);
});

test.each([
  ['where callers are not authenticated', { hasAuth: false, listeners: {} }],
  ['with a listener of its own', { hasAuth: true, listeners: { administration: { listen: '127.0.0.1:0' } } }],
])('%s, it does not exist', async (_, options) => {
  await using here = await place(options);
  const { site } = here;
  const headers: Record<string, string> = options.hasAuth ? admin : {};
  for (const name of operations) {
    const { status, body } = await put(site, `${name}?reference=1`, headers);
    expect([status, body.toString()]).toEqual([404, expect.stringContaining('EXTENSION_UNKNOWN')]);
  }
  expect((await send(site, ['GET', '/v2/_millpond/administration/downloads'], { headers })).status).toBe(404);
  expect(await discovered(site, headers)).toEqual([]);
  const document = await send(site, ['GET', '/v2/_millpond/openapi'], { headers });
  expect(document.body.toString()).not.toContain('administration');
});
