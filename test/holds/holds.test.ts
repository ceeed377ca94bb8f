import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { basic, htpasswdFile } from '../access/support.ts';
import { startHostedFleet } from '../cluster/hosted-fleet.ts';
import { startFleet } from '../cluster/support.ts';
import { codeOf, pushImage, send } from '../hosted/support.ts';
import { localImage, localIndex } from '../support/images.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite, temporaryFolder } from '../support/site.ts';
import { runMillpond } from './command.ts';

const image = localImage({ label: 'one' });
const upstreams = { 'registry.test': { origin: 'http://127.0.0.1:1' } };
const hosted = { repositories: ['local/**'] };

describe('a manifest of a repository that holds what is new', () => {
  test('is not pulled, by tag or by digest, until it is approved', async () => {
    await using site = await startTestSite({
      upstreams,
      config: { hosted, hold: [{ repositories: ['local/**'] }] },
    });
    await pushImage(site, 'local/app', image, '1');
    for (const reference of ['1', image.digest]) {
      const path = `/v2/local/app/manifests/${reference}`;
      const held = await send(site, ['GET', path]);
      expect({ status: held.status, code: codeOf(held) }).toEqual({ status: 403, code: 'DENIED' });
      expect(held.body.toString()).toContain('held for scanning');
      // Those who push look at what is there.
      expect((await send(site, ['HEAD', path])).status).toBe(200);
    }
    const { stdout } = await runMillpond(site, ['approve', '--list']);
    expect(stdout).toContain(`held local/app@${image.digest}`);
    await runMillpond(site, ['approve', 'local/app:1']);
    const got = await send(site, ['GET', '/v2/local/app/manifests/1']);
    expect(got.body.equals(image.bytes)).toBe(true);
    expect((await runMillpond(site, ['approve', '--list'])).stdout).toBe('');
  });

  test('of an upstream is held from its first pull on, and what was here before is not', async () => {
    await using registry = await startRegistry();
    const [before, after] = ['before', 'after'].map((tag) => registry.addImage('app', tag));
    await using folder = await temporaryFolder();
    const cacheDir = join(folder.path, 'cache');
    {
      await using site = await startTestSite({ upstreams: { 'registry.test': registry }, cacheDir });
      await site.get('/v2/registry.test/app/manifests/before');
    }
    const config = { hold: [{ repositories: ['registry.test/**'] }] };
    await using site = await startTestSite({ upstreams: { 'registry.test': registry }, cacheDir, config });
    expect((await site.get('/v2/registry.test/app/manifests/before')).status).toBe(200);
    for (const reference of ['after', 'after', after!.digest]) {
      expect((await site.get(`/v2/registry.test/app/manifests/${reference}`)).status, reference).toBe(403);
    }
    await runMillpond(site, ['approve', 'registry.test/app:after']);
    expect((await site.get('/v2/registry.test/app/manifests/after')).status).toBe(200);
    await runMillpond(site, ['reject', 'registry.test/app:before', '--reason', 'CVE-2026-1']);
    const rejected = await site.get(`/v2/registry.test/app/manifests/${before!.digest}`);
    expect(rejected.status).toBe(403);
    expect(rejected.body.toString()).toContain('CVE-2026-1');
  });

  test('is not given as a blob either', async () => {
    await using registry = await startRegistry();
    const added = registry.addImage('app', '1');
    registry.addBlob(added.bytes, { repository: 'app' });
    await using site = await startTestSite({
      upstreams: { 'registry.test': registry },
      config: { hosted, hold: [{ repositories: ['**'] }] },
    });
    await pushImage(site, 'local/app', image, '1');
    const paths = [`/v2/local/app/blobs/${image.digest}`, `/v2/registry.test/app/blobs/${added.digest}`];
    for (const path of paths) expect((await site.get(path)).status, path).toBe(403);
    expect((await site.get(`/v2/registry.test/app/blobs/${added.config.digest}`)).status).toBe(200);
    await runMillpond(site, ['approve', 'local/app:1']);
    await runMillpond(site, ['approve', `registry.test/app@${added.digest}`]);
    for (const path of paths) expect((await site.get(path)).status, path).toBe(200);
  });

  test('is released by time, where a time is configured', async () => {
    let nowMs = Date.parse('2026-11-30T12:00:00Z');
    await using site = await startTestSite({
      upstreams,
      now: () => nowMs,
      config: { hosted, hold: [{ repositories: ['local/**'], for: '24h' }] },
    });
    await pushImage(site, 'local/app', image, '1');
    const held = await send(site, ['GET', '/v2/local/app/manifests/1']);
    expect(held.body.toString()).toContain('2026-12-01T12:00:00.000Z');
    nowMs += 24 * 3_600_000;
    expect((await send(site, ['GET', '/v2/local/app/manifests/1'])).status).toBe(200);
  });

  test('is still held after a restart, and an index is approved with what it lists', async () => {
    await using folder = await temporaryFolder();
    const cacheDir = join(folder.path, 'cache');
    const config = { hosted, hold: [{ repositories: ['local/**'] }] };
    const index = localIndex('many', ['amd64', 'arm64']);
    {
      await using site = await startTestSite({ upstreams, cacheDir, config });
      await pushImage(site, 'local/app', index, 'many');
    }
    await using site = await startTestSite({ upstreams, cacheDir, config });
    const paths = [index, ...index.manifests].map(({ digest }) => `/v2/local/app/manifests/${digest}`);
    for (const path of paths) expect((await send(site, ['GET', path])).status).toBe(403);
    const { stdout } = await runMillpond(site, ['approve', 'local/app:many']);
    expect(stdout).toContain('(3 manifests)');
    for (const path of paths) expect((await send(site, ['GET', path])).status).toBe(200);
  });
});

test('a scanner with the right reads what is held, decides over the extension, and learns of it by events', async () => {
  await using folder = await temporaryFolder();
  const auth = {
    htpasswdFile: await htpasswdFile(folder.path, { scan: 's-secret', ann: 'a-secret', bob: 'b-secret' }),
    policies: [
      { users: ['scan'], actions: ['pull', 'search', 'administer'] },
      { users: ['ann'], actions: ['pull', 'push', 'search'] },
      { users: ['bob'], actions: ['pull', 'search'] },
    ],
  };
  await using site = await startTestSite({
    upstreams,
    config: { hosted, auth, hold: [{ repositories: ['local/**'] }] },
  });
  const [scan, ann, bob] = [basic('scan', 's-secret'), basic('ann', 'a-secret'), basic('bob', 'b-secret')];
  for (const { digest, bytes } of image.blobs) {
    await send(site, ['POST', `/v2/local/app/blobs/uploads/?digest=${digest}`], { headers: ann, body: bytes });
  }
  const headers = { ...ann, 'content-type': image.mediaType };
  await send(site, ['PUT', '/v2/local/app/manifests/1'], { headers, body: image.bytes });
  const get = async (who: Readonly<Record<string, string>>) =>
    (await send(site, ['GET', '/v2/local/app/manifests/1'], { headers: who })).status;
  expect([await get(scan), await get(ann), await get(bob)]).toEqual([200, 200, 403]);
  const listed = await send(site, ['GET', '/v2/_millpond/holds'], { headers: scan });
  expect(JSON.parse(listed.body.toString())).toMatchObject({
    held: [{ repository: 'local/app', digest: image.digest, state: 'held' }],
  });
  const path = `/v2/local/app/_millpond/holds?digest=${image.digest}&state=approved`;
  for (const who of [ann, bob]) expect((await send(site, ['PUT', path], { headers: who })).status).toBe(403);
  expect((await send(site, ['PUT', path], { headers: scan })).status).toBe(200);
  expect(await get(bob)).toBe(200);
  const reject = `/v2/local/app/_millpond/holds?digest=${image.digest}&state=rejected&reason=bad`;
  expect((await send(site, ['PUT', reject], { headers: scan })).status).toBe(200);
  expect(await get(bob)).toBe(403);
  const events = await send(site, ['GET', '/v2/_millpond/events?types=quarantined,approved,rejected'], {
    headers: scan,
  });
  expect((JSON.parse(events.body.toString()) as { type: string }[]).map(({ type }) => type.split('.').at(-1))).toEqual([
    'quarantined',
    'approved',
    'rejected',
  ]);
});

test('where callers are not authenticated, the extension decides nothing', async () => {
  await using site = await startTestSite({ upstreams, config: { hosted, hold: [{ repositories: ['local/**'] }] } });
  await pushImage(site, 'local/app', image, '1');
  const path = `/v2/local/app/_millpond/holds?digest=${image.digest}&state=approved`;
  expect((await send(site, ['PUT', path])).status).toBe(403);
  expect((await send(site, ['GET', '/v2/local/app/manifests/1'])).status).toBe(403);
});

test('what the owner of hosted repositories holds is held at each replica', async () => {
  await using fleet = await startHostedFleet({ config: { hold: [{ repositories: ['**'] }] } });
  const [one] = fleet.others;
  await pushImage(one!, 'local/app', image, '1');
  for (const reference of ['1', image.digest]) {
    const held = await send(one!, ['GET', `/v2/local/app/manifests/${reference}`]);
    expect(held.status).toBe(403);
    expect(held.body.toString()).toContain('held for scanning');
  }
  await runMillpond(fleet.owner, ['approve', 'local/app:1']);
  expect((await send(one!, ['GET', '/v2/local/app/manifests/1'])).body.equals(image.bytes)).toBe(true);
});

test('what is approved beside one replica is approved at all of them', async () => {
  await using registry = await startRegistry();
  registry.addImage('app', '1');
  await using fleet = await startFleet({
    replicas: 2,
    upstreams: { 'registry.test': registry },
    config: { hold: [{ repositories: ['registry.test/**'] }] },
  });
  const path = '/v2/registry.test/app/manifests/1';
  for (const site of fleet.sites) expect((await site.get(path)).status).toBe(403);
  await runMillpond(fleet.sites[0]!, ['approve', 'registry.test/app:1']);
  await expect.poll(async () => (await fleet.sites[1]!.get(path)).status).toBe(200);
});
