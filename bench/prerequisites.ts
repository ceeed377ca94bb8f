import { execFileSync } from 'node:child_process';
import { accessSync, constants, existsSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { delimiter, join } from 'node:path';

/** Programs, and the Debian package of each. */
const packages = {
  nginx: 'nginx',
  'docker-registry': 'docker-registry',
  wrk: 'wrk',
  taskset: 'util-linux',
  python3: 'python3',
};

const servicePolicy = '/usr/sbin/policy-rc.d';

/**
 * Installs the peers and the load generator where it can: on Debian, as root.
 * @throws Error in one sentence that says what is missing
 */
export function ensurePrerequisites(): void {
  if (process.platform !== 'linux') throw new Error('the measurements need Linux: they read /proc and pin to cores');
  if (availableParallelism() < 2)
    throw new Error('the measurements need two cores: one for the server, one for the rest');
  process.env['PATH'] = [process.env['PATH'], '/usr/sbin', '/sbin'].join(delimiter);
  if (missing().length > 0 && process.getuid?.() === 0 && existsSync('/etc/debian_version')) install(missing());
  const left = missing();
  if (left.length > 0) throw new Error(`missing: ${left.join(', ')}. On Debian: apt-get install ${left.join(' ')}`);
}

function missing(): string[] {
  const onPath = (program: string) =>
    (process.env['PATH'] ?? '').split(delimiter).some((folder) => isExecutable(join(folder, program)));
  return Object.entries(packages).flatMap(([program, name]) => (onPath(program) ? [] : [name]));
}

function install(names: readonly string[]): void {
  console.error(`Installing ${names.join(', ')}…`);
  // Debian starts the services of a package when it is installed, unless this script forbids it.
  const ownPolicy = !existsSync(servicePolicy);
  if (ownPolicy) writeFileSync(servicePolicy, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    for (const args of [['update'], ['install', '--yes', '--no-install-recommends', ...names]]) {
      const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
      execFileSync('apt-get', ['--quiet', ...args], { env, stdio: ['ignore', 'ignore', 'inherit'] });
    }
  } finally {
    if (ownPolicy) rmSync(servicePolicy);
  }
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
