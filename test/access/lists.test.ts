import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { KeyStore } from '../../src/access/key-store.ts';
import { follow } from '../events/follow.ts';
import { send } from '../hosted/support.ts';
import { localImage } from '../support/images.ts';
import { startTestSite, temporaryFolder } from '../support/site.ts';
import { pushAs } from './push.ts';
import { basic, bearer, challengeOf, htpasswdFile, htpasswdLine, tokenOf } from './support.ts';

const ann = basic('ann', 'a-secret');
const [one, two] = ['one', 'two'].map((label) => localImage({ label }));
const everything = ['pull', 'push', 'search'];
const policies = [{ users: ['ann', 'bob'], repositories: ['local/**'], actions: everything }];

/** A mirror with an image in each of two repositories. */
async function start(stack: AsyncDisposableStack, more: object = {}) {
  const folder = stack.use(await temporaryFolder());
  const file = await htpasswdFile(folder.path, { ann: 'a-secret', bob: 'b-secret' });
  const clock = { nowMs: Date.now() };
  const config = { hosted: { repositories: ['local/**'] }, auth: { htpasswdFile: file, policies, ...more } };
  const site = stack.use(
    await startTestSite({
      upstreams: { 'registry.test': { origin: 'http://127.0.0.1:1' } },
      config,
      now: () => clock.nowMs,
    }),
  );
  await pushAs(site, ann, { repository: 'local/one', image: one!, tag: 'v1' });
  await pushAs(site, ann, { repository: 'local/two', image: two!, tag: 'v1' });
  return { site, file, clock, config };
}

const lists = ['/v2/_catalog', '/v2/_millpond/search', '/v2/_millpond/events', '/v2/_millpond/holds'];

test.each(lists)('%s is for tokens that were asked for lists', async (path) => {
  await using stack = new AsyncDisposableStack();
  const { site } = await start(stack);
  const scope = 'registry:catalog:*';
  const narrow = await tokenOf(site, 'repository:local/one:pull', ann);
  const refused = await site.get(path, { headers: bearer(narrow) });
  expect(refused.status).toBe(401);
  expect(challengeOf(refused)).toMatchObject({ scope, error: 'insufficient_scope' });
  expect(refused.body.toString()).not.toMatch(/local/);
  expect(challengeOf(await site.get(path))).toEqual({ realm: `${site.origin}/token`, service: 'millpond', scope });
  for (const headers of [ann, bearer(await tokenOf(site, scope, ann))]) {
    const listed = async (): Promise<string> => {
      const { status, body } = await site.get(path, { headers });
      expect(status).toBe(200);
      return body.toString();
    };
    // The index of the search is a moment behind.
    await expect.poll(listed).toMatch(path.endsWith('holds') ? /^\{/ : /local\/one[^]*local\/two/);
  }
});

test('what a token was asked for is all that it shows beside its own repository', async () => {
  await using stack = new AsyncDisposableStack();
  const { site } = await start(stack);
  const token = bearer(await tokenOf(site, 'repository:local/one:pull,push', ann));
  const images = (name: string) => site.get(`/v2/_millpond/images/${name}:v1`, { headers: token });
  expect((await images('local/one')).status).toBe(200);
  expect((await images('local/two')).status).toBe(401);
  const own = await site.get('/v2/local/one/_millpond/events', { headers: token });
  expect(own.body.toString()).not.toContain('local/two');
  // A mount needs the right to pull from the other repository: without it, the client sends the bytes.
  const { digest } = two!.blobs[0]!;
  const mount = `/v2/local/one/blobs/uploads/?mount=${digest}&from=local/two`;
  expect((await send(site, ['POST', mount], { headers: token })).status).toBe(202);
  const both = await tokenOf(site, 'repository:local/one:pull,push repository:local/two:pull', ann);
  expect((await send(site, ['POST', mount], { headers: bearer(both) })).status).toBe(201);
});

test.each<[string, (setting: Awaited<ReturnType<typeof start>>) => Promise<unknown>]>([
  [
    'the password changes',
    ({ file }) => writeFile(file, htpasswdLine('ann', 'another') + htpasswdLine('bob', 'b-secret')),
  ],
  ['the user is removed', ({ file }) => writeFile(file, htpasswdLine('bob', 'b-secret'))],
])('a stream of events ends when %s', async (_, change) => {
  await using stack = new AsyncDisposableStack();
  const setting = await start(stack);
  const { site } = setting;
  using stream = follow(site, ann);
  await expect.poll(stream.isOpened).toBe(true);
  await change(setting);
  const bob = basic('bob', 'b-secret');
  await expect.poll(async () => (await site.get('/v2/', { headers: ann })).status).toBe(401);
  await pushAs(site, bob, { repository: 'local/one', image: two!, tag: 'later' });
  await expect.poll(stream.isEnded).toBe(true);
  expect(stream.events.filter(({ data }) => data.data.tag === 'later')).toEqual([]);
});

test.each(['itself', 'a token that it gave'])(
  'a stream of events that a key has opened by %s ends when the key is removed',
  async (by) => {
    await using stack = new AsyncDisposableStack();
    const robots = [{ users: ['robot'], kinds: ['key'], actions: ['pull', 'search'] }, ...policies];
    const { site } = await start(stack, { policies: robots });
    const keys = new KeyStore({ path: join(site.cacheDir, 'keys.json'), now: Date.now });
    const { key } = await keys.create({ name: 'robot', repositories: ['**'], actions: ['pull', 'search'] });
    const status = async (): Promise<number> => (await site.get('/v2/', { headers: bearer(key) })).status;
    await expect.poll(status).toBe(200);
    const token = by === 'itself' ? key : await tokenOf(site, 'registry:catalog:*', basic('x', key));
    using stream = follow(site, bearer(token));
    await expect.poll(stream.isOpened).toBe(true);
    await pushAs(site, ann, { repository: 'local/one', image: two!, tag: 'before' });
    await expect.poll(() => stream.events.map(({ data }) => data.data.tag)).toContain('before');
    await keys.remove('robot');
    await expect.poll(status).toBe(401);
    await pushAs(site, ann, { repository: 'local/one', image: two!, tag: 'later' });
    await expect.poll(stream.isEnded).toBe(true);
    expect(stream.events.filter(({ data }) => data.data.tag === 'later')).toEqual([]);
  },
);

test('a stream of events ends with the token that opened it', async () => {
  await using stack = new AsyncDisposableStack();
  const { site, clock } = await start(stack, { tokenExpiry: '5m' });
  const token = await tokenOf(site, 'registry:catalog:*', ann);
  using stream = follow(site, bearer(token));
  await expect.poll(stream.isOpened).toBe(true);
  clock.nowMs += 7 * 60_000;
  await pushAs(site, ann, { repository: 'local/one', image: two!, tag: 'later' });
  await expect.poll(stream.isEnded).toBe(true);
  expect(stream.events).toEqual([]);
});

test('a stream that was open before there were callers ends when there are', async () => {
  await using stack = new AsyncDisposableStack();
  const { site, config } = await start(stack);
  const { auth: _, ...open } = config;
  await site.reconfigure(open);
  using stream = follow(site);
  await expect.poll(stream.isOpened).toBe(true);
  await site.reconfigure(config);
  await pushAs(site, ann, { repository: 'local/one', image: two!, tag: 'later' });
  await expect.poll(stream.isEnded).toBe(true);
  expect(stream.events).toEqual([]);
});

test('the stream of one repository gives nothing more once a policy takes it away', async () => {
  await using stack = new AsyncDisposableStack();
  const { site, config } = await start(stack);
  const bob = basic('bob', 'b-secret');
  using stream = follow(site, ann, { path: '/v2/local/one/_millpond/events' });
  await expect.poll(stream.isOpened).toBe(true);
  const without = [{ users: ['ann'], repositories: ['local/one'], actions: everything, effect: 'deny' }, ...policies];
  await pushAs(site, ann, { repository: 'local/one', image: one!, tag: 'before' });
  await expect.poll(() => stream.events.map(({ data }) => data.data.tag)).toContain('before');
  using allowed = follow(site, bob);
  await expect.poll(allowed.isOpened).toBe(true);
  await site.reconfigure({ ...config, auth: { ...config.auth, policies: without } });
  await pushAs(site, bob, { repository: 'local/one', image: two!, tag: 'later' });
  await expect.poll(() => allowed.events.map(({ data }) => data.data.tag)).toContain('later');
  expect(stream.events.map(({ data }) => data.data.tag)).not.toContain('later');
});

test('a path that only begins like one of replicas gives nothing to those who show nothing', async () => {
  await using stack = new AsyncDisposableStack();
  const { site } = await start(stack);
  const paths = [
    'blobs/local/one/manifests/v1',
    'blobs/x/blobs/uploads/',
    'blobs/x/tags/list',
    'answers/one/manifests/v1',
  ];
  for (const path of paths) {
    for (const query of ['', '?ns=local']) {
      const refused = await site.get(`/v2/_millpond/${path}${query}`);
      expect([401, 404], path).toContain(refused.status);
    }
  }
});
