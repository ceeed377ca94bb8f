import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { runProgram } from '../../src/upstream/credentials/program.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { failureOf, readCredential } from './support.ts';

/** A shell script that is gone at the end of its scope. */
async function script(body: string) {
  const folder = await temporaryDirectory('program');
  const program = join(folder.path, 'program');
  await writeFile(program, `#!/bin/sh\n${body}\n`);
  await chmod(program, 0o755);
  return Object.assign(folder, { program });
}

const run = { args: [], input: '', environment: process.env, timeoutMs: 60_000 };

const inherited = [
  'PATH',
  'HOME',
  'USER',
  'LOGNAME',
  'LANG',
  'LC_ALL',
  'LC_CTYPE',
  'TZ',
  'TMPDIR',
  'XDG_CONFIG_HOME',
  'DOCKER_CONFIG',
  'SSL_CERT_FILE',
  'SSL_CERT_DIR',
  'http_proxy',
  'https_proxy',
  'no_proxy',
  'all_proxy',
  'HTTP_PROXY',
  'HTTPS_PROXY',
  'NO_PROXY',
  'ALL_PROXY',
  ...['AWS', 'ECR', 'AMAZON', 'GOOGLE', 'GCE', 'CLOUDSDK', 'AZURE', 'ACR', 'MSI', 'IDENTITY', 'KUBERNETES'].flatMap(
    (name) => [name, `${name}_A_1`],
  ),
  'KUBECONFIG',
  'GNUPGHOME',
  'PASSWORD_STORE_DIR',
];
const secret = [
  'REGISTRY_PASSWORD',
  'PATHS',
  'MYPATH',
  'HOMEDIR',
  'LC_',
  'LC_all',
  'XDG_',
  'SSL_CERT_KEY',
  'ftp_proxy',
  'httpss_proxy',
  'HTTPS_PROXY_PASSWORD',
  'MY_AWS_KEY',
  'AWSOME',
  'AWS_',
  'AWS_a',
  'aws_key',
  'MILLPOND_SECRET',
];

describe('a program', () => {
  test('gets arguments, input and the variables that tell it who it is, and no others', async () => {
    await using folder = await script(`echo "$1|$2"; cat; echo; /usr/bin/env`);
    const names = [...inherited, ...secret].filter((name) => name !== 'PATH');
    const environment = { PATH: process.env['PATH'], ...Object.fromEntries(names.map((name) => [name, `of ${name}`])) };
    const variables = { GIVEN: 'yes', HOME: '/given' };
    const args = ['a b', '$c'];
    const { code, output } = await runProgram(folder.program, { ...run, args, input: 'in', environment, variables });
    const [first, second, ...rest] = output.trimEnd().split('\n');
    expect([code, first, second]).toEqual([0, 'a b|$c', 'in']);
    const seen = new Set(rest.map((line) => line.split('=', 1)[0]!));
    expect(inherited.filter((name) => !seen.has(name))).toEqual([]);
    expect(secret.filter((name) => seen.has(name))).toEqual([]);
    expect(rest).toContain('GIVEN=yes');
    expect(rest).toContain('HOME=/given');
  });

  test('tells its exit code with what it wrote; its standard error is dropped', async () => {
    await using folder = await script('echo out; echo canary >&2; exit 3');
    expect(await runProgram(folder.program, run)).toEqual({ code: 3, output: 'out\n' });
  });

  test('that a signal has ended has failed', async () => {
    await using folder = await script('kill -9 $$');
    expect(await runProgram(folder.program, run)).toEqual({ code: -1, output: '' });
  });

  test('may write 64 KiB, and no byte more', async () => {
    await using full = await script('head -c 65536 /dev/zero');
    expect((await runProgram(full.program, run)).output).toHaveLength(65_536);
    await using over = await script('head -c 65537 /dev/zero');
    await expect(runProgram(over.program, run)).rejects.toThrow('wrote more than 64 KiB');
    await using endless = await script('cat /dev/zero');
    await expect(runProgram(endless.program, run)).rejects.toThrow('wrote more than 64 KiB');
  });

  test('that takes too long is ended with its children', async () => {
    await using folder = await script('sleep 600 & echo $! > "$1"; wait');
    const file = join(folder.path, 'child');
    await expect(runProgram(folder.program, { ...run, args: [file], timeoutMs: 5_000 })).rejects.toThrow(
      'did not end within 5 s',
    );
    const child = Number(await readFile(file, 'utf8'));
    await expect.poll(() => isRunning(child)).toBe(false);
  });

  test('that does not read its input is no failure', async () => {
    await using folder = await script('exec 0<&-; exit 0');
    expect(await runProgram(folder.program, { ...run, input: 'x'.repeat(1_000_000) })).toEqual({ code: 0, output: '' });
  });

  test('that is not there, or none, cannot be started', async () => {
    await expect(runProgram('/nothing/here', run)).rejects.toThrow('is not installed');
    await using folder = await script('exit 0');
    await expect(runProgram(folder.path, run)).rejects.toThrow('cannot be started (EACCES)');
  });
});

async function isRunning(pid: number): Promise<boolean> {
  const status = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return status !== '' && !/\) [ZX] /.test(status);
}

describe('a credential provider of the kubelet', () => {
  const answer = {
    apiVersion: 'credentialprovider.kubelet.k8s.io/v1',
    kind: 'CredentialProviderResponse',
    cacheKeyType: 'Image',
  };
  const context = { upstream: 'x', environment: process.env };

  async function userOf(host: string, answered: object): Promise<unknown> {
    await using folder = await script(`cat > /dev/null; echo '${JSON.stringify({ ...answer, ...answered })}'`);
    const options = { kind: 'kubelet', program: folder.program, args: [] } as const;
    const found = await readCredential(options, { ...context, host });
    return found?.kind === 'basic' ? found.username : found;
  }

  const user = (username: string) => ({ username, password: 'secret' });

  test.each<[string, readonly string[], string | undefined]>([
    ['reg.example', ['https://reg.example/', 'x'], 'https://reg.example/'],
    ['reg.example', ['http://reg.example'], 'http://reg.example'],
    ['reg.example', ['xhttp://reg.example', 'reg.example/x', 'ftp://reg.example'], undefined],
    ['REG.example', ['reg.EXAMPLE'], 'reg.EXAMPLE'],
    ['reg.example:5000', ['reg.example', 'reg.example:5001'], undefined],
    ['reg.example', ['reg.example:5000'], undefined],
    ['a.reg.example', ['*.example', '*.*.*', '*.reg.example'], '*.reg.example'],
    ['abc.example', ['a*c.example'], 'a*c.example'],
    ['ac.example', ['a*c.example'], 'a*c.example'],
    ['a.example', ['a*a.example'], undefined],
    ['abcbd.example', ['a*b*d.example'], 'a*b*d.example'],
    ['abd.example', ['a*b*d.example'], 'a*b*d.example'],
    ['ad.example', ['a*b*d.example'], undefined],
    ['abbd.example', ['a*b*b*bd.example'], undefined],
    ['xabx.example', ['x*b*a*x.example'], undefined],
    ['xabx.example', ['x*ab*x.example'], 'x*ab*x.example'],
    ['bc.example', ['a*c.example'], undefined],
    ['ab.example', ['a*c.example'], undefined],
    ['reg.example', ['*eg.example', 'r*g.example'], '*eg.example'],
    ['reg.example', ['r*.example', '*eg.example', 'reg.*'], '*eg.example'],
  ])('has for the host %s, of the patterns %j, the one of %s', async (host, patterns, expected) => {
    const auth = Object.fromEntries(patterns.map((pattern) => [pattern, user(pattern)]));
    expect(await userOf(host, { auth })).toBe(expected);
  });

  test.each<[string, object]>([
    ['no list', { auth: [] }],
    ['no auth', {}],
    ['an entry without a password', { auth: { 'reg.example': { username: 'u' } } }],
    ['an entry without a user', { auth: { 'reg.example': { password: 'p' } } }],
    ['an entry that is none', { auth: { 'reg.example': 'u:p' } }],
  ])('has nothing in an answer with %s', async (_, answered) => {
    expect(await userOf('reg.example', answered)).toBeUndefined();
  });

  test.each(['0', '0s', '1h', '1.5h', '1h2m3s', '4ms5us6µs7ns', null])('may answer for %s', async (cacheDuration) => {
    expect(await userOf('reg.example', { auth: { 'reg.example': user('u') }, cacheDuration })).toBe('u');
  });

  test.each(['', '1', '1d', ' 1h', '1h ', '1h 2m', 'h', 60, {}])('may not answer for %j', async (cacheDuration) => {
    const error = await failureOf(userOf('reg.example', { auth: {}, cacheDuration }));
    expect(error.message).toContain('did not answer with a CredentialProviderResponse');
  });

  test.each(['Image', 'Registry', 'Global'])('may answer for the key type %s', async (cacheKeyType) => {
    expect(await userOf('reg.example', { auth: { 'reg.example': user('u') }, cacheKeyType })).toBe('u');
  });

  test('that fails is named, with its exit code', async () => {
    await using folder = await script('exit 4');
    const options = { kind: 'kubelet', program: folder.program, args: [] } as const;
    const error = await failureOf(readCredential(options, { ...context, host: 'reg.example' }));
    expect(error).toMatchObject({ reason: 'no-credentials' });
    expect(error.message).toContain(`has its credentials in ${folder.program}, which failed with exit code 4`);
  });
});
