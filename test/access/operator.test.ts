import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { startRegistry } from '../support/registry.ts';
import { startTestSite, temporaryFolder } from '../support/site.ts';
import { basic, htpasswdFile } from './support.ts';

test('operators read metrics and reasons with credentials; probes need none', async () => {
  await using folder = await temporaryFolder();
  await using registry = await startRegistry();
  const policies = [
    { users: ['admin'], actions: ['administer'] },
    { users: ['ann'], repositories: ['registry.test/app'] },
  ];
  const auditFile = join(folder.path, 'audit.log');
  const auth = { htpasswdFile: await htpasswdFile(folder.path, { admin: 'x-secret', ann: 'a-secret' }), policies };
  await using site = await startTestSite({
    upstreams: { 'registry.test': registry },
    config: { auth, log: { auditFile } },
  });
  const status = async (path: string, headers = {}): Promise<number> => (await site.get(path, { headers })).status;
  const [admin, ann] = [basic('admin', 'x-secret'), basic('ann', 'a-secret')];
  expect([await status('/healthz'), await status('/readyz'), await status('/'), await status('/metrics')]).toEqual([
    200, 200, 401, 401,
  ]);
  expect((await site.get('/metrics')).headers['www-authenticate']).toMatch(/^Basic /);
  expect(JSON.parse((await site.get('/readyz')).body.toString())).toEqual({ status: 'ok' });
  expect(JSON.parse((await site.get('/readyz', { headers: ann })).body.toString())).toEqual({
    status: 'ok',
    reasons: [],
  });
  expect([await status('/', ann), await status('/metrics', ann), await status('/metrics', admin)]).toEqual([
    200, 403, 200,
  ]);
  expect(await status('/readyz', basic('ann', 'w-secret'))).toBe(401);
  await site.stop();
  const lines = (await readFile(auditFile, 'utf8')).trim().split('\n');
  expect(lines.map((line) => JSON.parse(line) as object)).toEqual([
    expect.objectContaining({ event: 'access refused', caller: 'ann', action: 'administer', address: '127.0.0.1' }),
    expect.objectContaining({ event: 'credentials refused', address: '127.0.0.1' }),
  ]);
  expect(JSON.stringify([lines, site.logLines])).not.toMatch(/[axw]-secret/);
});
