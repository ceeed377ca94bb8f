import { expect, test } from 'vitest';
import { errorAnswer } from '../support/answers.ts';
import { get } from '../support/client.ts';
import { runCommand } from '../support/commands.ts';
import { startMillpond } from '../support/millpond.ts';
import { startRegistry } from '../support/registry.ts';

test('status and explain show several credentials, which of them is limited, and no secret', async () => {
  await using registry = await startRegistry({
    instead: ({ headers: { authorization } }) => {
      if (authorization === undefined)
        return errorAnswer(401, 'UNAUTHORIZED', { 'WWW-Authenticate': 'Basic realm="x"' });
      const user = Buffer.from(authorization.slice('Basic '.length), 'base64').toString();
      return user.startsWith('one:') ? errorAnswer(429, 'TOOMANYREQUESTS', { 'Retry-After': '600' }) : undefined;
    },
  });
  registry.addImage('team/app', 'v1');
  const auth = { username: 'one', password: 'canary-one' };
  const additionalAuth = [{ username: 'two', passwordEnv: 'REGISTRY_TWO' }];
  const env = { REGISTRY_TWO: 'canary-two' };
  const config = { upstreams: { 'reg.example': { urls: [registry.origin], auth, additionalAuth } } };
  await using mirror = await startMillpond(config, { env });
  expect((await get(`${mirror.origin}/v2/team/app/manifests/v1?ns=reg.example`)).status).toBe(200);
  const status = await runCommand(['status'], mirror.directory);
  expect(status.stdout).toMatch(/user one, password from the configuration\n {4}limited until \S+, 1 request\n/);
  expect(status.stdout).toMatch(
    /user two, password from the environment variable REGISTRY_TWO\n {4}available, \d requests?\n/,
  );
  const explained = await runCommand(['explain', 'reg.example/team/app:v1'], mirror.directory);
  expect(explained.stdout.replaceAll(/\s+/g, ' ')).toContain(
    'user one, password from the configuration; user two, password from',
  );
  for (const { stdout } of [status, explained]) expect(stdout).not.toContain('canary');
});
