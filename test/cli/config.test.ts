import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ConfigFolder } from '../config/sources.ts';
import { type Ended, launcher, run } from './spawn.ts';

let folder: ConfigFolder;
beforeEach(async () => {
  folder = await ConfigFolder.create();
});
afterEach(async () => {
  await folder[Symbol.asyncDispose]();
});

function millpond(args: readonly string[], environment: Readonly<Record<string, string>> = {}): Promise<Ended> {
  return run(launcher, args, { cwd: folder.path, environment });
}

describe('config check', () => {
  test('a good file is said to be valid', async () => {
    await folder.write('good.yaml', 'listen: :5000\n');
    expect(await millpond(['config', 'check', 'good.yaml'])).toEqual({
      code: 0,
      stdout: 'good.yaml is valid\n',
      stderr: '',
    });
  });

  test('what has no effect is a note', async () => {
    const tls = 'serve: { threads: 2 }\ntls: { certFile: cert.pem, keyFile: key.pem';
    await folder.write('tls.yaml', `${tls} }\n`);
    expect(await millpond(['config', 'check', 'tls.yaml'])).toMatchObject({ stdout: 'tls.yaml is valid\n' });
    await folder.write('tls.yaml', `${tls}, clientCaFile: ca.pem }\n`);
    const checked = await millpond(['config', 'check', 'tls.yaml']);
    expect(checked.stdout).toMatch(
      /^tls\.yaml is valid\nnote: serve\.threads: 2 has no effect with tls\.clientCaFile, because .+\n$/,
    );
  });

  test('without an argument it takes millpond.yaml, and says when there is none', async () => {
    expect(await millpond(['config', 'check'])).toMatchObject({
      code: 0,
      stdout: 'no configuration file: the defaults are in force\n',
    });
    await folder.write('millpond.yaml', '');
    expect(await millpond(['config', 'check'])).toMatchObject({ code: 0, stdout: 'millpond.yaml is valid\n' });
  });

  test('every problem of a bad file is a line on standard error', async () => {
    await folder.write('bad.yaml', 'cache:\n  tagTTl: 5s\n  minFree: much\n');
    expect(await millpond(['config', 'check', 'bad.yaml'])).toEqual({
      code: 1,
      stdout: '',
      stderr:
        'bad.yaml:2: unknown key "tagTTl" in cache; did you mean "tagTtl"?\n' +
        'bad.yaml:3: cache.minFree: found "much"; accepted: a size with its unit, such as 500MB or 100GiB (B, KB, MB, GB, KiB, MiB, GiB, TiB)\n',
    });
  });

  test('a missing file is a failure', async () => {
    expect(await millpond(['config', 'check', 'gone.yaml'])).toEqual({
      code: 1,
      stdout: '',
      stderr: 'gone.yaml: the configuration file cannot be read: there is no such file\n',
    });
  });

  test('two different files are wrong usage', async () => {
    expect((await millpond(['config', 'check', 'a.yaml', '--config', 'b.yaml'])).code).toBe(2);
  });
});

describe('config show', () => {
  test('prints what is in force with its origin', async () => {
    await folder.write(
      'millpond.yaml',
      'offline: true\nupstreams: { a.example: { auth: { username: u, password: s3cret } } }\n',
    );
    const { code, stdout, stderr } = await millpond(['config', 'show', '--listen', ':7'], {
      MILLPOND_LOG_LEVEL: 'warn',
    });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toContain('listen: ":7" # flag --listen\n');
    expect(stdout).toContain('offline: true # millpond.yaml:1\n');
    expect(stdout).toContain('  level: warn # env MILLPOND_LOG_LEVEL\n');
    expect(stdout).toContain('  tagTtl: 1m # default\n');
    expect(stdout).not.toContain('s3cret');
  });

  test('--json prints one JSON object', async () => {
    const { code, stdout } = await millpond(['config', 'show', '--json']);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      file: null,
      config: { listen: '127.0.0.1:5000', defaultUpstream: 'docker.io' },
    });
  });

  test('a reader that leaves early is no failure', async () => {
    const child = spawn(launcher, ['config', 'schema'], { cwd: folder.path, stdio: ['ignore', 'pipe', 'pipe'] });
    child.stdout.destroy();
    const errors: Buffer[] = [];
    child.stderr.on('data', (chunk: Buffer) => errors.push(chunk));
    const [code] = await once(child, 'close');
    expect({ code, stderr: Buffer.concat(errors).toString() }).toEqual({ code: 0, stderr: '' });
  });
});

test('config schema prints a JSON Schema', async () => {
  const { code, stdout } = await millpond(['config', 'schema']);
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({
    $schema: expect.stringContaining('json-schema.org'),
    properties: { listen: {} },
  });
});

describe('the command line', () => {
  test.each([
    [[], 'millpond: a command is missing (see "millpond --help")'],
    [['config'], 'millpond: a command is missing (see "millpond --help")'],
    [['swim'], `millpond: unknown command 'swim' (see "millpond --help")`],
    [['confog'], `millpond: unknown command 'confog' (Did you mean config?) (see "millpond --help")`],
    [['config', 'shw'], `millpond: unknown command 'shw' (Did you mean show?) (see "millpond --help")`],
    [['config', 'show', '--jsn'], `millpond: unknown option '--jsn' (Did you mean --json?) (see "millpond --help")`],
    [['config', 'show', '--listen'], `millpond: option '--listen <address>' argument missing (see "millpond --help")`],
  ])('wrong usage %j is exit code 2 and one line', async (args, line) => {
    expect(await millpond(args)).toEqual({ code: 2, stdout: '', stderr: `${line}\n` });
  });

  test.each([
    [['--help']],
    [['config', '--help']],
    [['config', 'check', '--help']],
    [['config', 'show', '--help']],
    [['config', 'schema', '--help']],
    [['help', 'config']],
    [['status', '--help']],
    [['explain', '--help']],
  ])('%j prints the usage', async (args) => {
    const { code, stdout, stderr } = await millpond(args);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/^Usage: millpond /);
  });

  test('--version prints the version alone', async () => {
    expect(await millpond(['--version'])).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/),
    });
  });
});
