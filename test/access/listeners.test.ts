import { expect, test } from 'vitest';
import { get } from '../support/client.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite, temporaryFolder } from '../support/site.ts';
import { basic, htpasswdFile } from './support.ts';

test('metrics, peers and administration have listeners of their own, and are served nowhere else', async () => {
  await using folder = await temporaryFolder();
  await using registry = await startRegistry();
  const listen = { listen: '127.0.0.1:0' };
  const auth = {
    htpasswdFile: await htpasswdFile(folder.path, { admin: 'x', ann: 'a' }),
    policies: [{ users: ['admin'], actions: ['administer', 'pull'] }, { users: ['ann'] }],
  };
  await using site = await startTestSite({
    upstreams: { 'registry.test': registry },
    config: { auth, listeners: { metrics: listen, peers: listen, administration: listen } },
  });
  const addressOf = (name: string): string => {
    const line = site.logLines.find(({ listener }) => listener === name);
    return `http://${String(line?.['address'])}`;
  };
  const status = async (url: string, headers = {}): Promise<number> => (await get(url, { headers })).status;
  const [admin, ann] = [basic('admin', 'x'), basic('ann', 'a')];
  const [metrics, peers, control] = [addressOf('metrics'), addressOf('peers'), addressOf('administration')];

  expect((await get(`${metrics}/metrics`)).body.toString()).toContain('millpond_');
  expect([await status(`${metrics}/readyz`), await status(`${metrics}/v2/`, ann)]).toEqual([200, 404]);
  expect(await status(`${site.origin}/metrics`, admin)).toBe(404);

  const replicaPath = `/v2/_millpond/blobs/sha256:${'0'.repeat(64)}`;
  expect([await status(`${peers}/v2/`, admin), await status(`${site.origin}${replicaPath}`, admin)]).toEqual([
    404, 404,
  ]);
  const unsigned = await get(`${peers}${replicaPath}`, { headers: admin });
  expect([unsigned.status, unsigned.body.toString()]).toEqual([404, expect.stringContaining('UNSUPPORTED')]);

  expect([
    await status(`${control}/status`),
    await status(`${control}/status`, basic('admin', 'w')),
    await status(`${control}/status`, ann),
    await status(`${control}/status`, admin),
  ]).toEqual([401, 401, 403, 200]);
  expect(await status(`${control}/explain?image=registry.test/app&as=ann`, admin)).toBe(200);
  expect(await status(`${site.origin}/status`, admin)).toBe(404);
});

test('administration over TCP requires auth', async () => {
  const start = startTestSite({
    upstreams: { 'registry.test': { origin: 'http://127.0.0.1:1' } },
    config: { listeners: { administration: { listen: '127.0.0.1:0' } } },
  });
  await expect(start).rejects.toThrow('listeners.administration: requires auth');
});
