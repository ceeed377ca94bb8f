import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { expect, test } from 'vitest';
import { basic } from '../access/support.ts';
import { problemsOf } from '../config/sources.ts';
import { get } from '../support/client.ts';
import { runCommand } from '../support/commands.ts';
import { startMillpond } from '../support/millpond.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { guardedKeys, openKeys, secretKeys, urlKeys } from './places.ts';
import { formsOf, prepareSecrets, startSilent } from './setting.ts';

test('each key of the configuration that may hold a secret has a canary here', () => {
  expect([...guardedKeys()].toSorted()).toEqual([...secretKeys, ...openKeys].toSorted());
});

test.each(urlKeys())('no URL takes a secret, nor is it shown: %s', async (key) => {
  for (const url of [
    'https://mirror:canary@host.test',
    'https://host.test/?token=canary',
    'https://mirror:canary#@host.test',
  ]) {
    const written = key
      .split('.')
      .reduceRight<unknown>(
        (value, step) => (step === '[]' ? [value] : { [step === '*' ? 'host.test' : step]: value }),
        url,
      );
    const problems = await problemsOf(JSON.stringify(written));
    expect(problems.join('\n')).toMatch(
      /without (?:credentials and without )?a query|must not hold credentials|found "https:/,
    );
    expect(problems.join('\n')).not.toContain('canary');
  }
});

test('each secret goes to its own place, and nowhere else', async () => {
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await temporaryDirectory('secrets')).path;
  const directory = stack.use(await temporaryDirectory('mirror')).path;
  const { config, canaries, places, registries, authority, redis, redisPassword, env } = await prepareSecrets(
    stack,
    folder,
  );
  const crash = `data:text/javascript,process.on('SIGWINCH',()=>{throw%20new%20Error('a%20crash')})`;
  const reports = `--report-on-signal --report-uncaught-exception --report-directory=${directory}`;
  const environment = {
    ...env,
    NODE_OPTIONS: `${reports} --import=${crash}`,
    PASSWORD_ELSEWHERE: 'canary-environment',
  };
  canaries.push({ key: 'upstreams.*.auth.password', texts: ['canary-environment'], place: undefined });
  const asked = new Redis(redis.port, { password: redisPassword });
  stack.defer(() => asked.disconnect());
  const monitor = await asked.monitor();
  stack.defer(() => monitor.disconnect());
  const written: string[] = [];
  monitor.on('monitor', (_: unknown, args: readonly string[]) => {
    // The client that looks shows its own password.
    if (args[0]?.toLowerCase() !== 'auth') written.push(args.join(' '));
  });
  await using mirror = await startMillpond(config, { directory, env: environment });
  const origin = `https://${mirror.host}`;
  const { cert: ca } = authority;
  const ask = async (
    path: string,
    headers: Readonly<Record<string, string>> = basic('ann', 'right'),
    method = 'GET',
  ) => {
    const reply = await get(`${origin}${path}`, { headers, ca, method });
    written.push(JSON.stringify(reply.rawHeaders), reply.body.toString('latin1'));
    return reply;
  };
  for (const [kind, registry] of registries) {
    const upstream = `${kind.toLowerCase()}.test`;
    const image = registry.addImage('team/app', 'v1', { layers: [kind] });
    for (let count = 0; count < 3; count += 1) {
      expect((await ask(`/v2/${upstream}/team/app/manifests/v1`)).status, kind).toBe(200);
      expect((await ask(`/v2/${upstream}/team/app/blobs/${image.layers[0]!.digest}`)).status, kind).toBe(200);
    }
    expect((await ask(`/v2/${upstream}/team/app/manifests/absent-${kind}`)).status).toBe(404);
    expect((await ask(`/v2/${upstream}/team/other/tags/list`)).status).toBeGreaterThanOrEqual(400);
  }
  expect((await ask('/v2/tls.test/team/app/manifests/v1')).status).toBeGreaterThanOrEqual(500);
  // A token of the issuer, which its API server does not know.
  const token = [{ alg: 'RS256' }, { iss: 'https://issuer.test', exp: 9_999_999_999 }, 'x'].map((part) =>
    Buffer.from(JSON.stringify(part)).toString('base64url'),
  );
  expect((await ask('/v2/', basic('x', token.join('.')))).status).toBe(401);
  expect((await ask('/v2/', basic('ann', 'wrong'))).status).toBe(401);
  const made = await runCommand(['key', 'create', 'robot', '--config', join(directory, 'millpond.yaml')], directory);
  const secret = made.stdout.trim().slice(-43);
  canaries.push({ key: 'auth.keysFile', texts: [secret], place: undefined });
  expect((await ask('/v2/', basic('x', made.stdout.trim()))).status).toBe(200);
  for (const path of ['/readyz', '/v2/_catalog', '/v2/_millpond/search', '/v2/_millpond/events', '/']) await ask(path);
  const commands = [
    ['status', '--json'],
    ['config', 'show', '--json'],
    ['config', 'check'],
    ['explain', 'password.test/team/app:v1'],
    ['probe', 'passwordfile.test', 'team/app:v1'],
    ['ls', '--json'],
    ['fetch', 'password.test/team/app:v1'],
    ['export', '--output', join(directory, 'out.tar'), 'password.test/team/app:v1'],
    ['import', join(directory, 'out.tar')],
  ];
  for (const args of commands) {
    const { stdout, stderr } = await runCommand([...args, '--config', join(directory, 'millpond.yaml')], directory);
    written.push(stdout, stderr);
  }
  const client = new Redis(redis.port, { password: redisPassword });
  for (const key of await client.keys('*')) written.push(key, (await client.dumpBuffer(key))?.toString('latin1') ?? '');
  client.disconnect();
  mirror.process.kill('SIGUSR2');
  await expect.poll(async () => (await readdir(directory)).some((name) => name.startsWith('report.'))).toBe(true);
  await expect
    .poll(async () => {
      const [name = ''] = (await readdir(directory)).filter((one) => one.startsWith('report.'));
      return (await readFile(join(directory, name), 'utf8')).trimEnd().endsWith('}');
    })
    .toBe(true);
  expect(
    written.some((one) => one.startsWith('eval')),
    'what Redis is asked',
  ).toBe(true);
  mirror.process.kill('SIGWINCH');
  await mirror.process.exited();
  expect(mirror.process.output).toContain('a crash');
  expect((await readdir(directory)).filter((name) => name.startsWith('report.'))).toHaveLength(2);
  written.push(mirror.process.output);
  const files = (await readdir(directory, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
  for (const { parentPath, name } of files) {
    // The one place where two of them are written down.
    if (name !== 'millpond.yaml') written.push(await readFile(join(parentPath, name), 'latin1'));
  }
  expect(written.length).toBeGreaterThan(60);
  for (const { key, texts, place } of canaries) {
    for (const text of texts) {
      const forms = formsOf(text);
      for (const form of forms) {
        const found = written.find((one) => one.includes(form));
        expect(found && `${key}: ${found.slice(Math.max(0, found.indexOf(form) - 200)).slice(0, 300)}`).toBeUndefined();
      }
      const seen = places
        .filter(({ received }) => forms.some((form) => received().includes(form)))
        .map(({ name }) => name);
      expect({ key, seen }).toEqual({ key, seen: place === undefined || place === 'redis' ? [] : [place] });
    }
  }
});

test('the passwords of Redis and of its Sentinel go to them alone, also while they cannot be had', async () => {
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await temporaryDirectory('secrets')).path;
  const { config, file } = await prepareSecrets(stack, folder);
  const sentinel = await startSilent(stack);
  const redis = {
    url: `redis+sentinel://127.0.0.1:${sentinel.port}/main`,
    passwordFile: await file('redis-password', 'canary-redis-file'),
    sentinelPasswordFile: await file('sentinel-password', 'canary-sentinel'),
  };
  const { log, cluster, upstreams } = config;
  await using mirror = await startMillpond({ log, cluster, upstreams, redis });
  await expect.poll(() => sentinel.received()).toContain('canary-sentinel');
  expect(sentinel.received()).not.toContain('canary-redis-file');
  const { body } = await get(`${mirror.origin}/readyz`);
  const { stdout } = await runCommand(['status', '--json'], mirror.directory);
  for (const text of [mirror.process.output, body.toString(), stdout])
    expect(text).not.toMatch(/canary-(?:redis|sentinel)/);
});
