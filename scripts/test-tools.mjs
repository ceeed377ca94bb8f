// Installs the programs that the tests run against: real registries, real clients, a real Redis.
// Plain JavaScript, since it runs before the pinned Node is there.
import { execFileSync } from 'node:child_process';
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Programs from the system's own Debian release, and the package of each. */
const systemTools = {
  'redis-server': 'redis-server',
  'docker-registry': 'docker-registry',
  skopeo: 'skopeo',
  podman: 'podman',
  buildah: 'buildah',
  containerd: 'containerd',
  ctr: 'containerd',
  openssl: 'openssl',
  nginx: 'nginx',
  shellcheck: 'shellcheck',
  strace: 'strace',
};

/**
 * Programs of one Debian release, whatever that of the system, unpacked beside it: name → release, package, path inside the
 * package.
 */
const unpackedTools = {
  oras: { release: 'trixie', package: 'oras', path: 'usr/bin/oras' },
  'docker-compose': {
    release: 'trixie',
    package: 'docker-compose',
    path: 'usr/libexec/docker/cli-plugins/docker-compose',
  },
  docker: { release: 'bookworm', package: 'docker.io', path: 'usr/bin/docker' },
  dockerd: { release: 'bookworm', package: 'docker.io', path: 'usr/sbin/dockerd' },
  promtool: { release: 'bookworm', package: 'prometheus', path: 'usr/bin/promtool' },
  'containerd-2': { release: 'sid', package: 'containerd', path: 'usr/bin/containerd' },
  'ctr-2': { release: 'sid', package: 'containerd', path: 'usr/bin/ctr' },
};

/** Programs that are in no package list: built from the Go module proxy where a Go is installed. */
const goTools = {
  helm: 'helm.sh/helm/v3/cmd/helm@v3.22.0',
};

const cacheDir = join(dirname(fileURLToPath(import.meta.url)), '..', 'node_modules', '.cache', 'test-tools');
const servicePolicy = '/usr/sbin/policy-rc.d';
const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';

/**
 * Installs what is missing where it can (Debian, as root) and says in one line what is missing elsewhere. Tests whose
 * programs are missing skip themselves, so nothing here fails a run, except in CI, where a skipped test would go unseen.
 */
export function ensureTestTools() {
  const canInstall = process.getuid?.() === 0 && existsSync('/etc/debian_version') && onPath('apt-get');
  if (canInstall) {
    attempt('the test tools', () => installSystemTools(missingSystemTools()));
    attempt('test tools beside the system', () => unpackTools(missingUnpackedTools()));
  }
  if (onPath('go')) attempt('test tools written in Go', () => buildGoTools(missingGoTools()));
  const unbuilt = missingGoTools();
  if (unbuilt.length > 0) console.error(`Tests that need ${unbuilt.join(', ')} will be skipped: not installed.`);
  const missing = [...missingSystemTools(), ...missingUnpackedTools()];
  if (missing.length === 0) return;
  const packages = missingSystemTools().map((program) => systemTools[program]);
  const advice = packages.length > 0 ? ` On Debian: apt-get install ${[...new Set(packages)].join(' ')}` : '';
  const message = `Tests that need ${missing.join(', ')} will be skipped: not installed.${advice}`;
  if (canInstall && process.env.CI === 'true') throw new Error(message);
  console.error(message);
}

function missingSystemTools() {
  return Object.keys(systemTools).filter((program) => !onPath(program));
}

function missingUnpackedTools() {
  return Object.keys(unpackedTools).filter((program) => !existsSync(join(cacheDir, 'bin', program)));
}

function missingGoTools() {
  return Object.keys(goTools).filter((program) => !onPath(program) && !existsSync(join(cacheDir, 'bin', program)));
}

function buildGoTools(missing) {
  if (missing.length === 0) return;
  console.error(`Building ${missing.join(', ')} for the tests, once…`);
  mkdirSync(join(cacheDir, 'bin'), { recursive: true });
  const env = { ...process.env, GOBIN: join(cacheDir, 'bin'), CGO_ENABLED: '0' };
  for (const program of missing) {
    execFileSync('go', ['install', '-trimpath', '-ldflags', '-s -w', goTools[program]], { env, stdio: 'pipe' });
  }
}

function installSystemTools(missing) {
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map((program) => systemTools[program]))];
  console.error(`Installing ${packages.join(', ')} for the tests…`);
  // Debian starts the services of a package when it is installed, unless this script forbids it.
  const ownPolicy = !existsSync(servicePolicy);
  if (ownPolicy) writeFileSync(servicePolicy, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    // An unreachable source, often another one, must not prevent the installation.
    attempt('the newest package lists', () => apt(['update']));
    apt(['install', '--yes', '--no-install-recommends', ...packages]);
  } finally {
    if (ownPolicy) rmSync(servicePolicy);
  }
}

function unpackTools(missing) {
  if (missing.length === 0) return;
  if (!existsSync(keyring)) throw new Error(`${keyring} is not there to verify packages with`);
  const wanted = missing.map((program) => unpackedTools[program]);
  const labels = [...new Set(wanted.map((tool) => `${tool.package}/${tool.release}`))];
  console.error(`Fetching ${labels.join(', ')} for the tests…`);
  const scratch = mkdtempSync(join(tmpdir(), 'millpond-apt-'));
  try {
    const releases = [...new Set(wanted.map((tool) => tool.release))];
    const sources = releases.map(
      (release) => `deb [signed-by=${keyring}] http://deb.debian.org/debian ${release} main\n`,
    );
    writeFileSync(join(scratch, 'sources.list'), sources.join(''));
    writeFileSync(join(scratch, 'status'), '');
    for (const folder of ['lists/partial', 'archives/partial']) mkdirSync(join(scratch, folder), { recursive: true });
    const own = aptBeside(scratch);
    apt([...own, 'update']);
    for (const tool of wanted) unpack(own, { ...tool, scratch });
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  mkdirSync(join(cacheDir, 'bin'), { recursive: true });
  for (const program of missing) {
    const tool = unpackedTools[program];
    rmSync(join(cacheDir, 'bin', program), { force: true });
    symlinkSync(join('..', `${tool.package}-${tool.release}`, tool.path), join(cacheDir, 'bin', program));
  }
}

function unpack(own, { package: name, release, scratch }) {
  const target = join(cacheDir, `${name}-${release}`);
  if (existsSync(target)) return;
  apt([...own, 'download', `${name}/${release}`], { cwd: scratch });
  const file = execFileSync('find', ['.', '-maxdepth', '1', '-name', `${name}_*.deb`], {
    cwd: scratch,
    encoding: 'utf8',
  });
  // Renamed when it is whole: a folder that is there is never half unpacked.
  const unpacked = `${target}.new`;
  rmSync(unpacked, { recursive: true, force: true });
  mkdirSync(unpacked, { recursive: true });
  execFileSync('dpkg', ['-x', join(scratch, file.trim()), unpacked], { stdio: 'pipe' });
  renameSync(unpacked, target);
}

// An apt with lists, sources and a status of its own, so that the system keeps its release.
function aptBeside(folder) {
  const settings = {
    'Dir::Etc::sourcelist': join(folder, 'sources.list'),
    'Dir::Etc::sourceparts': '/dev/null',
    'Dir::State': folder,
    'Dir::State::lists': join(folder, 'lists'),
    'Dir::State::status': join(folder, 'status'),
    'Dir::Cache': folder,
    'Dir::Cache::archives': join(folder, 'archives'),
    'APT::Sandbox::User': 'root',
    'Acquire::Languages': 'none',
    'Acquire::IndexTargets::deb::DEP-11::DefaultEnabled': 'false',
  };
  return Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
}

function apt(args, options = {}) {
  execFileSync('apt-get', ['-qq', '-o', 'DPkg::Lock::Timeout=300', '-o', 'Acquire::Retries=2', ...args], {
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    stdio: 'pipe',
    ...options,
  });
}

function attempt(what, action) {
  try {
    action();
  } catch (error) {
    const said = String(error.stderr ?? '')
      .trim()
      .split('\n')
      .at(-1);
    console.error(`Could not install ${what}: ${said || error.message}`);
  }
}

function onPath(program) {
  const folders = (process.env.PATH ?? '').split(delimiter);
  return [...folders, '/usr/sbin', '/sbin'].some((folder) => isExecutable(join(folder, program)));
}

function isExecutable(file) {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
