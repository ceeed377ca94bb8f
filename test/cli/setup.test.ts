import { once } from 'node:events';
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { reservePort } from '../support/ports.ts';
import { type Ended, run } from './spawn.ts';

const setupScript = fileURLToPath(new URL('../../scripts/setup.mjs', import.meta.url));
const announcement = 'millpond: installing packages (npm ci), once\n';

// Stands for npm: writes down how it was called and "installs" what the lock file has, without dev unless told.
const fakeNpm = `
import { appendFileSync, mkdirSync, readFileSync, symlinkSync, writeFileSync, rmSync } from 'node:fs';
appendFileSync('npm-calls', process.argv.slice(2).join(' ') + '\\n');
if (process.env.NPM_FAILS) process.exit(1);
rmSync('node_modules', { recursive: true, force: true });
mkdirSync('node_modules/.bin', { recursive: true });
if (!process.env.NO_PINNED_NODE) symlinkSync(process.execPath, 'node_modules/.bin/node');
const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8'));
const dev = process.argv.includes('--include=dev');
const kept = Object.entries(packages).filter(([, entry]) => (dev || !entry.dev) && !entry.os);
writeFileSync('node_modules/.package-lock.json', JSON.stringify({ packages: Object.fromEntries(kept) }));
`;

let root: string;
/** Stands for the registry of packages: it can be reached, and is not asked for anything. */
let registry: Server;
beforeEach(async () => {
  registry = createServer((socket) => socket.end()).listen(0, '127.0.0.1');
  await once(registry, 'listening');
  root = await mkdtemp(join(tmpdir(), 'millpond-setup-'));
  await mkdir(join(root, 'scripts'));
  await mkdir(join(root, 'path'));
  await copyFile(setupScript, join(root, 'scripts/setup.mjs'));
  await writeFile(join(root, 'npm.mjs'), fakeNpm);
  await writeLock({ integrity: 'one' });
});
afterEach(async () => {
  registry.close();
  await rm(root, { recursive: true });
});

async function writeLock(options: { readonly integrity: string }): Promise<void> {
  const packages = {
    '': {},
    'node_modules/koa': { integrity: options.integrity },
    'node_modules/vitest': { integrity: 'v', dev: true },
    'node_modules/other-platform': { integrity: 'o', optional: true, os: ['plan9'], cpu: ['pdp11'] },
  };
  await writeFile(join(root, 'package-lock.json'), JSON.stringify({ packages }));
}

function setup(args: readonly string[] = [], environment: Readonly<Record<string, string>> = {}): Promise<Ended> {
  const path = `${join(root, 'path')}:${process.env.PATH}`;
  const { port } = registry.address() as AddressInfo;
  const npm = {
    npm_execpath: join(root, 'npm.mjs'),
    npm_node_execpath: process.execPath,
    npm_config_registry: `http://127.0.0.1:${port}/`,
  };
  return run(process.execPath, ['scripts/setup.mjs', ...args], {
    cwd: root,
    environment: { PATH: path, ...npm, ...environment },
  });
}

async function npmCalls(): Promise<readonly string[]> {
  return (await readFile(join(root, 'npm-calls'), 'utf8')).trim().split('\n');
}

test('a fresh clone is installed once, without install scripts, in one line of output', async () => {
  expect(await setup()).toEqual({ code: 0, stdout: '', stderr: announcement });
  expect(await setup()).toEqual({ code: 0, stdout: '', stderr: '' });
  const calls = await npmCalls();
  expect(calls).toHaveLength(1);
  expect(calls[0]).toMatch(/^ci --ignore-scripts /);
  expect(calls[0]).toContain('--omit=dev');
});

test('another lock file is installed', async () => {
  await setup();
  await writeLock({ integrity: 'two' });
  expect(await setup()).toEqual({ code: 0, stdout: '', stderr: announcement });
  expect(await npmCalls()).toHaveLength(2);
});

test('what was installed by hand and fits is left alone', async () => {
  await setup();
  await rm(join(root, 'node_modules/.millpond-setup'));
  expect(await setup()).toEqual({ code: 0, stdout: '', stderr: '' });
  expect(await npmCalls()).toHaveLength(1);
});

test('the tests need the development packages, once', async () => {
  await setup();
  expect((await setup(['--for-tests'])).stderr).toBe(announcement);
  expect((await setup(['--for-tests'])).stderr).toBe('');
  expect((await setup()).stderr).toBe('');
  expect((await npmCalls())[1]).toContain('--include=dev');
});

test('the tools of the tests are seen to for the tests only', async () => {
  const tools = `export async function ensureTestTools() { await null; process.stderr.write('tools\\n'); }`;
  await writeFile(join(root, 'scripts/test-tools.mjs'), tools);
  expect((await setup()).stderr).toBe(announcement);
  expect((await setup(['--for-tests'])).stderr).toBe(`${announcement}tools\n`);
});

test('without a network the reason is reported at once, and the cache of npm is enough', async () => {
  await using port = await reservePort();
  const away = { npm_config_registry: `http://127.0.0.1:${port.port}/` };
  const failed = await setup([], { ...away, NPM_FAILS: '1' });
  expect(failed.code).toBe(1);
  expect(failed.stderr).toContain(
    `the packages cannot be installed: 127.0.0.1:${port.port} cannot be reached (ECONNREFUSED).`,
  );
  expect(failed.stderr).toContain('docs/air-gap.md');
  expect((await setup([], away)).code).toBe(0);
  for (const call of await npmCalls()) expect(call).toContain('--offline');
});

test('an npm that fails is reported in one line, and the next run tries again', async () => {
  const failed = await setup([], { NPM_FAILS: '1' });
  expect(failed.code).toBe(1);
  expect(failed.stderr).toBe(`${announcement}millpond: "npm ci" did not succeed; run it by hand to see why\n`);
  expect((await setup()).code).toBe(0);
});

test('where no ready-made Node comes with it and the own is old, it says what to do', async () => {
  await writeFile(join(root, 'path/node'), '#!/bin/sh\necho v20.1.0\n');
  await chmod(join(root, 'path/node'), 0o755);
  const { code, stderr } = await setup([], { NO_PINNED_NODE: '1' });
  expect(code).toBe(1);
  expect(stderr.replace(announcement, '')).toMatch(/^millpond: no ready-made Node .* install Node 24 or newer, .*\n$/);
});

test('where no ready-made Node comes with it, an own one that is new enough will do', async () => {
  await writeFile(join(root, 'path/node'), '#!/bin/sh\necho v24.0.0\n');
  await chmod(join(root, 'path/node'), 0o755);
  expect(await setup([], { NO_PINNED_NODE: '1' })).toEqual({ code: 0, stdout: '', stderr: announcement });
});

test('a pinned Node that lacks a library is kept, says what to install, and is taken once that is there', async () => {
  await setup();
  const pinned = join(root, 'node_modules/.bin/node');
  const error = 'node: error while loading shared libraries: libatomic.so.1: cannot open shared object file';
  await rm(join(root, 'node_modules/.millpond-setup'));
  await rm(pinned);
  await writeFile(pinned, `#!/bin/sh\necho '${error}' >&2\nexit 127\n`, { mode: 0o755 });
  for (const _ of ['first', 'second']) {
    const { code, stderr } = await setup();
    expect(code).toBe(1);
    expect(stderr).toContain(error);
    expect(stderr).toContain('apt-get install libatomic1');
  }
  await writeFile(pinned, '#!/bin/sh\necho v26.10.0\n');
  expect(await setup()).toEqual({ code: 0, stdout: '', stderr: '' });
  expect(await npmCalls()).toHaveLength(1);
});
