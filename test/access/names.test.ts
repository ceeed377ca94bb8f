import { request } from 'node:http';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { localImage } from '../support/images.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite, type TestSite, temporaryFolder } from '../support/site.ts';
import { pushAs } from './push.ts';
import { basic, htpasswdFile } from './support.ts';

const [ann, bob] = [basic('ann', 'a-secret'), basic('bob', 'b-secret')];
const image = localImage({ label: 'of ann' });

/** A mirror in which bob may read everything but what is Ann's, by rules that could be walked around. */
async function start(stack: AsyncDisposableStack) {
  const folder = stack.use(await temporaryFolder());
  const file = await htpasswdFile(folder.path, { ann: 'a-secret', bob: 'b-secret' });
  const registry = stack.use(await startRegistry());
  registry.addImage('ann/app', 'v1', { layers: ['of ann'] });
  registry.addImage('library/app', 'v1', { layers: ['of all'] });
  const secret = ['local/ann/**', 'registry.test/ann/**'];
  const policies = [
    { users: ['ann'], actions: ['pull', 'push', 'search'] },
    { users: ['bob'], repositories: secret, actions: ['pull', 'push', 'delete', 'search'], effect: 'deny' },
    { users: ['bob'], actions: ['pull', 'push', 'delete', 'search'] },
  ];
  const site = stack.use(
    await startTestSite({
      upstreams: { 'registry.test': { urls: [registry.origin], aliases: ['mirrored.test'] } },
      config: {
        defaultUpstream: 'registry.test',
        hosted: { repositories: ['local/**'] },
        auth: { htpasswdFile: file, policies },
        serve: { threads: 2 },
      },
    }),
  );
  await pushAs(site, ann, { repository: 'local/ann/app', image, tag: 'v1' });
  return site;
}

/** Ways to write a name that could lead to `local/ann/app` or `registry.test/ann/app`. */
const hosted = [
  'local/ann/app',
  'local/%61nn/app',
  'local%2Fann/app',
  'local/ann%2fapp',
  'local/ANN/app',
  'LOCAL/ann/app',
  'Local/ann/app',
  'local//ann/app',
  '/local/ann/app',
  'local/./ann/app',
  'local/x/../ann/app',
  'local/%2e%2e/local/ann/app',
  'local/ann/app/',
  'local/ann/app/.',
  'local/ann/app%20',
  'local/ann/app%00',
  'local/ann;x/app',
  'local/ann\\app',
  'local/\u0430nn/app',
  'local/%D0%B0nn/app',
  'local/%EF%BD%81nn/app',
];
const upstream = [
  'registry.test/ann/app',
  'REGISTRY.TEST/ann/app',
  'registry.test:443/ann/app',
  'registry.test./ann/app',
  'mirrored.test/ann/app',
  'MIRRORED.test/ann/app',
  'ann/app',
  'Ann/app',
  '%61nn/app',
  'library/../ann/app',
];
const queries = [
  '',
  '?ns=registry.test',
  '?ns=REGISTRY.TEST',
  '?ns=mirrored.test',
  '?ns=local',
  '?ns=LOCAL',
  '?ns=',
  '?ns=registry.test&ns=local',
  '?ns=local&ns=registry.test',
  '?ns=other.test&ns=registry.test',
  '?NS=registry.test',
  '?ns=registry.test%2Fann',
  '?ns=local/ann',
];

/** Asks as bob, for a path as it is written: a parsed one would have no dots any more. */
async function ask(site: TestSite, method: string, path: string): Promise<{ status: number; body: string }> {
  return await new Promise((resolve, reject) => {
    const { hostname, port } = new URL(site.origin);
    const asked = request({ hostname, port, method, path, headers: bob, agent: false }, (response) => {
      text(response).then((body) => resolve({ status: response.statusCode ?? 0, body }), reject);
    });
    asked.once('error', reject).end();
  });
}

const { digest } = image.blobs[0]!;
const ways = ['manifests/v1', `manifests/${image.digest}`, `blobs/${digest}`, 'tags/list', `referrers/${image.digest}`];
const extensions = ['_millpond/images/v1', '_millpond/events', '_millpond/search', '_oci/ext/discover'];

describe('a user that may read everything but two folders', () => {
  const owned = new AsyncDisposableStack();
  let site: TestSite;
  beforeAll(async () => {
    site = await start(owned);
  });
  afterAll(() => owned.disposeAsync());

  test.each([...hosted, ...upstream])('gets nothing of them as %s', async (name) => {
    const spelling = encodeURI(name).replaceAll('%25', '%');
    const refused = async (path: string, method = 'GET'): Promise<void> => {
      const { status, body } = await ask(site, method, path);
      // With another `ns`, it can be the name of another repository, to which nothing is attached.
      const isOfNothing = status === 200 && path.includes('/referrers/') && body.includes('"manifests":[]');
      expect([path, status, isOfNothing || [400, 403, 404].includes(status)]).toEqual([path, status, true]);
      expect(body).not.toContain('of ann');
    };
    for (const query of queries) {
      for (const way of ways) await refused(`/v2/${spelling}/${way}${query}`);
      await refused(`/v2/${spelling}/manifests/v1${query}`, 'HEAD');
      const begun = await ask(site, 'POST', `/v2/${spelling}/blobs/uploads/${query}`);
      expect([query, begun.status >= 400]).toEqual([query, true]);
    }
    for (const extension of extensions) await refused(`/v2/${spelling}/${extension}`);
    await refused(`/v2/_millpond/images/${spelling}:v1`);
    // Nor does a mount from it give anything.
    const mount = `/v2/local/bob/app/blobs/uploads/?mount=${digest}&from=${encodeURIComponent(name)}`;
    expect((await site.get(mount, { method: 'POST', headers: bob })).status).toBe(202);
  });

  test('gets what else there is, and the owner of the folders what is in them', async () => {
    expect((await site.get('/v2/library/app/manifests/v1', { headers: bob })).status).toBe(200);
    for (const name of ['local/ann/app', 'registry.test/ann/app', 'mirrored.test/ann/app', 'ann/app']) {
      expect([name, (await site.get(`/v2/${name}/manifests/v1`, { headers: ann })).status]).toEqual([name, 200]);
    }
  });
});
