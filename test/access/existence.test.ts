import { StatementSync } from 'node:sqlite';
import { afterEach, expect, test, vi } from 'vitest';
import type { Reply } from '../support/client.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite, temporaryFolder } from '../support/site.ts';
import { basic, bearer, htpasswdFile, tokenOf } from './support.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

/** Counts what is asked of the catalog. */
function countQuestions() {
  const spies = (['get', 'all', 'run', 'iterate'] as const).map((method) => vi.spyOn(StatementSync.prototype, method));
  return () => spies.reduce((sum, { mock }) => sum + mock.calls.length, 0);
}

/** All that a client sees of an answer, but for the time of day. */
function seen({ status, rawHeaders, body }: Reply): object {
  const lines = rawHeaders.flatMap((name, index) =>
    index % 2 === 0 && name.toLowerCase() !== 'date' ? [`${name}: ${rawHeaders[index + 1]}`] : [],
  );
  return { status, lines, body: body.toString() };
}

test('a caller without rights cannot tell what is stored, what is elsewhere and what does not exist', async () => {
  await using folder = await temporaryFolder();
  await using registry = await startRegistry();
  const [stored, other] = ['stored', 'other'].map((tag) => registry.addImage('ann/app', tag, { layers: [tag] }));
  const absent = `sha256:${'1'.repeat(64)}`;
  const file = await htpasswdFile(folder.path, { ann: 'a-secret', bob: 'b-secret' });
  const policies = [
    { users: ['ann'], repositories: ['registry.test/ann/**'] },
    { users: ['bob'], repositories: ['registry.test/bob/**'], actions: ['pull', 'search'] },
  ];
  await using site = await startTestSite({
    upstreams: { 'registry.test': registry },
    config: { auth: { htpasswdFile: file, anonymous: true, policies }, serve: { threads: 2 } },
  });
  const ann = basic('ann', 'a-secret');
  const app = '/v2/registry.test/ann/app';
  expect((await site.get(`${app}/manifests/stored`, { headers: ann })).status).toBe(200);
  for (const { digest } of stored!.layers)
    expect((await site.get(`${app}/blobs/${digest}`, { headers: ann })).status).toBe(200);
  const bob = basic('bob', 'b-secret');
  const token = bearer(await tokenOf(site, 'repository:registry.test/ann/app:pull', bob));
  const anonymous = bearer(await tokenOf(site, 'repository:registry.test/ann/app:pull', {}));
  await site.get('/v2/', { headers: bob });
  registry.forgetRequests();
  const questions = countQuestions();
  const conditionsOf: readonly Readonly<Record<string, string>>[] = [
    {},
    { range: 'bytes=0-0' },
    { 'if-none-match': '*' },
  ];
  const kinds: readonly (readonly string[])[] = [
    ['manifests/stored', 'manifests/other', 'manifests/nothing'],
    [stored, other].map((image) => `manifests/${image!.digest}`).concat(`manifests/${absent}`),
    [stored, other].map((image) => `blobs/${image!.layers[0]!.digest}`).concat(`blobs/${absent}`),
    [stored, other].map((image) => `referrers/${image!.digest}`).concat(`referrers/${absent}`),
    ['stored', 'other', 'nothing'].map((tag) => `_millpond/images/${tag}`),
  ];
  for (const headers of [bob, token, anonymous, {}]) {
    for (const paths of kinds) {
      for (const conditions of conditionsOf) {
        for (const method of ['GET', 'HEAD']) {
          const answers: object[] = [];
          for (const path of paths) {
            // What the catalog writes behind pulls is no question of this request: in one of some tries there is none.
            let asked = Number.POSITIVE_INFINITY;
            let reply: Reply | undefined;
            for (let tries = 0; tries < 20 && asked > 0; tries += 1) {
              const before = questions();
              reply = await site.get(`${app}/${path}`, { method, headers: { ...headers, ...conditions } });
              asked = questions() - before;
            }
            expect([asked, path]).toEqual([0, path]);
            answers.push(seen(reply!));
          }
          expect(new Set(answers.map((answer) => JSON.stringify(answer))).size, `${method} ${paths[0]}`).toBe(1);
          expect(answers[0]).toMatchObject({ status: headers === bob || headers === token ? 403 : 401 });
        }
      }
    }
  }
  // Another repository, which does not exist at all, is refused in the same way.
  const [one, two] = await Promise.all(
    ['ann/app', 'nothing/app'].map((name) => site.get(`/v2/registry.test/${name}/tags/list`, { headers: bob })),
  );
  expect(seen(one!)).toEqual(seen(two!));
  expect(registry.requests).toEqual([]);
});
