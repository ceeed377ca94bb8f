import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { launcher, run } from '../cli/spawn.ts';
import { get } from '../support/client.ts';
import { startMillpond } from '../support/millpond.ts';
import { startRegistry } from '../support/registry.ts';
import { basic, bearer } from './support.ts';

test('a key does what its scope and the policies allow, until it expires or is removed', async () => {
  await using registry = await startRegistry();
  const blob = registry.addBlob({ size: 100, seed: 'one' });
  const policies = [
    { name: 'robots', users: ['ci', 'other'], kinds: ['key'], repositories: ['registry.test/**'], actions: ['pull'] },
  ];
  await using mirror = await startMillpond({
    upstreams: { 'registry.test': { urls: [registry.origin] } },
    auth: { policies },
  });
  const cwd = mirror.directory;
  const millpond = (...args: readonly string[]) => run(launcher, args, { cwd });
  const made = await millpond('key', 'create', 'ci', '--repositories', 'registry.test/app', '--expires', '1d');
  expect(made).toMatchObject({ code: 0, stdout: expect.stringMatching(/^mpk_[0-9a-f]{12}_[\w-]{43}\n$/) as string });
  const key = made.stdout.trim();
  const status = async (repository: string, headers: Readonly<Record<string, string>>): Promise<number> =>
    (await get(`${mirror.origin}/v2/registry.test/${repository}/blobs/${blob.digest}`, { headers })).status;
  for (const headers of [basic('anyone', key), bearer(key)]) {
    expect(await status('app', headers)).toBe(200);
    expect(await status('other', headers)).toBe(403);
  }
  const answer = await get(`${mirror.origin}/token?scope=repository:registry.test/app:pull`, {
    headers: basic('x', key),
  });
  const token = bearer((JSON.parse(answer.body.toString()) as { token: string }).token);
  expect(await status('app', token)).toBe(200);
  expect(await status('app', basic('x', `${key.slice(0, -1)}x`))).toBe(401);
  const kept = await readFile(join(cwd, 'data', 'keys.json'), 'utf8');
  expect(kept).not.toContain(key.slice(-43));

  const listed = await millpond('key', 'ls', '--json');
  const record = { name: 'ci', repositories: ['registry.test/app'], actions: ['pull'] };
  expect(JSON.parse(listed.stdout)).toMatchObject(record);
  const explained = await millpond('explain', 'registry.test/app:v1', '--as', 'key:ci');
  expect(explained.stdout).toMatch(
    /as ci +pull +allowed +policies\[0\] \(robots\)\n +push +denied +the scope of the key/,
  );
  const stranger = await millpond('explain', 'registry.test/app:v1', '--as', 'ann,group=dev', '--json');
  const { access } = JSON.parse(stranger.stdout) as { access: { caller: string; decisions: object[] } };
  expect(access.caller).toBe('ann');
  expect(access.decisions[0]).toEqual({ action: 'pull', allowed: false, rule: 'no policy allows it' });

  expect(await millpond('key', 'rm', 'ci')).toMatchObject({ code: 0 });
  for (const headers of [basic('x', key), token]) expect(await status('app', headers)).toBe(401);
  expect(await millpond('key', 'rm', 'ci')).toMatchObject({ code: 1, stderr: 'millpond: there is no key ci\n' });
  await mirror.process.untilOutput(/"event":"key created","key":"[0-9a-f]{12}","name":"ci","msg":"audit"/);
  await mirror.process.untilOutput(/"event":"access refused".+"caller":"ci".+"repository":"registry.test\/other"/);
  expect(mirror.process.output).not.toContain(key.slice(-43));
});

test('wrong usage is refused', async () => {
  const cwd = import.meta.dirname;
  for (const args of [
    ['a b'],
    ['ci', '--actions', 'fly'],
    ['ci', '--expires', 'soon'],
    ['ci', '--repositories', 'A!'],
  ]) {
    expect(await run(launcher, ['key', 'create', ...args], { cwd })).toMatchObject({ code: 2 });
  }
});
