import { chmod, chown, copyFile, mkdir, mkdtemp, readFile, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Ended, launcher, run } from './spawn.ts';

let root: string;
beforeEach(async () => {
  root = await realpath(await mkdtemp(join(tmpdir(), 'millpond-launcher-')));
  for (const folder of ['app/bin', 'app/src', 'app/node_modules/.bin', 'path']) {
    await mkdir(join(root, folder), { recursive: true });
  }
  await copyFile(launcher, join(root, 'app/bin/millpond'));
  await writeFile(join(root, 'app/src/main.ts'), 'console.log(process.argv.slice(2).join());');
});
afterEach(async () => {
  await rm(root, { recursive: true });
});

async function fakeNode(path: string, options: { readonly major: number }): Promise<void> {
  const script = `#!/bin/sh\n[ "$1" = -e ] && exit ${options.major >= 24 ? 0 : 1}\necho "node ${options.major}: $*"\n`;
  await writeFile(join(root, path), script);
  await chmod(join(root, path), 0o755);
}

function launch(args: readonly string[], link = 'app/bin/millpond'): Promise<Ended> {
  return run(join(root, link), args, { cwd: root, environment: { PATH: `${join(root, 'path')}:/usr/bin:/bin` } });
}

test('the Node beside the program goes before the one on the PATH', async () => {
  await symlink(process.execPath, join(root, 'app/node_modules/.bin/node'));
  await fakeNode('path/node', { major: 30 });
  expect(await launch(['a b', 'c'])).toEqual({ code: 0, stdout: 'a b,c\n', stderr: '' });
});

test('a chain of links leads to the program', async () => {
  await symlink(process.execPath, join(root, 'app/node_modules/.bin/node'));
  await symlink('../app/bin/millpond', join(root, 'path/first'));
  await symlink(join(root, 'path/first'), join(root, 'second'));
  expect(await launch(['x'], 'second')).toEqual({ code: 0, stdout: 'x\n', stderr: '' });
});

test('without a Node beside the program, one on the PATH that is new enough is taken', async () => {
  await fakeNode('path/node', { major: 24 });
  expect(await launch(['x'])).toEqual({
    code: 0,
    stdout: `node 24: --disable-warning=ExperimentalWarning --report-exclude-env --max-semi-space-size=4 --heap-growing-percent=100 --initial-old-space-size=64 ${join(root, 'app/src/main.ts')} x\n`,
    stderr: '',
  });
});

test('there are sixteen threads to look names up and read files, unless the caller says how many', async () => {
  const node = join(root, 'app/node_modules/.bin/node');
  await writeFile(node, '#!/bin/sh\necho "$UV_THREADPOOL_SIZE"\n');
  await chmod(node, 0o755);
  expect((await launch(['serve'])).stdout).toBe('16\n');
  const environment = { PATH: '/usr/bin:/bin', UV_THREADPOOL_SIZE: '5' };
  expect((await run(join(root, 'app/bin/millpond'), [], { cwd: root, environment })).stdout).toBe('5\n');
});

test('compiled code is kept where there is a folder for it, unless the caller says where', async () => {
  const node = join(root, 'app/node_modules/.bin/node');
  await writeFile(node, '#!/bin/sh\necho "${NODE_COMPILE_CACHE-none}"\n');
  await chmod(node, 0o755);
  expect((await launch(['serve'])).stdout).toMatch(/none\n$/);
  const folder = join(root, 'app/node_modules/.cache');
  await mkdir(folder);
  expect((await launch(['serve'])).stdout).toMatch(new RegExp(`${folder}/compiled\n$`));
  const environment = { PATH: '/usr/bin:/bin', NODE_COMPILE_CACHE: '' };
  expect((await run(join(root, 'app/bin/millpond'), [], { cwd: root, environment })).stdout).toBe('\n');
});

test.runIf(process.getuid?.() === 0)('compiled code in a folder of another user is not believed', async () => {
  const node = join(root, 'app/node_modules/.bin/node');
  await writeFile(node, '#!/bin/sh\necho "${NODE_COMPILE_CACHE-none}"\n');
  await chmod(node, 0o755);
  await mkdir(join(root, 'app/node_modules/.cache'));
  await chown(join(root, 'app/node_modules/.cache'), 65534, 65534);
  expect((await launch(['serve'])).stdout).toMatch(/none\n$/);
});

test('a crash leaves no core dump, which would contain credentials, even where the system would write one', async () => {
  const node = join(root, 'app/node_modules/.bin/node');
  await writeFile(node, '#!/bin/sh\n[ "$1" = --version ] || ulimit -S -c\n');
  await chmod(node, 0o755);
  const script = 'ulimit -S -c "$(ulimit -H -c)" && exec app/bin/millpond serve';
  expect(await run('/bin/sh', ['-c', script], { cwd: root })).toEqual({ code: 0, stdout: '0\n', stderr: '' });
});

test('the systemd unit starts it, and allows no core dump', async () => {
  const unit = await readFile(join(launcher, '../../deploy/systemd/millpond.service'), 'utf8');
  expect(unit).toMatch(/^ExecStart=\/opt\/millpond\/bin\/millpond serve$/m);
  expect(unit).toMatch(/^LimitCORE=0$/m);
});

test('a Node on the PATH that is too old is refused in one line', async () => {
  await fakeNode('path/node', { major: 20 });
  const { code, stdout, stderr } = await launch([]);
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  expect(stderr).toMatch(/^millpond: Node 24 or newer is needed: .*\n$/);
});

test('packages that are not installed are reported in one line', async () => {
  await rm(join(root, 'app/node_modules'), { recursive: true });
  expect(await launch([])).toEqual({
    code: 1,
    stdout: '',
    stderr: `millpond: its packages are missing: run "npm ci" in ${join(root, 'app')}\n`,
  });
});
