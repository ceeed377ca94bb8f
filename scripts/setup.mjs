// Does the set-up that is missing before `npm start` and `npm test`. Plain JavaScript: it runs on any Node from 20 on.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const forTests = process.argv.includes('--for-tests');
const stampFile = `${root}node_modules/.millpond-setup`;
const pinnedNode = `${root}node_modules/.bin/node`;
const oldestNode = 24;
/** How long the registry of packages may take to be found and to answer. */
const reachWithinMs = 5_000;

const lockText = readFileSync(`${root}package-lock.json`, 'utf8');
const hash = createHash('sha256').update(lockText).digest('hex');

if (!isStamped()) {
  if (!installedPackagesFit()) await install();
  checkNode();
  warmUp();
  const kind = forTests || developmentPackagesFit() ? 'all' : 'production';
  writeFileSync(stampFile, `${hash} ${platform()} ${kind}\n`);
}

if (forTests) {
  const tools = new URL('test-tools.mjs', import.meta.url);
  if (existsSync(tools)) {
    const { ensureTestTools } = await import(tools.href);
    await ensureTestTools();
  }
}

/** Whether an earlier run has seen to everything for this lock file on this machine. */
function isStamped() {
  if (!existsSync(stampFile)) return false;
  const [stampedHash, stampedPlatform, kind] = readFileSync(stampFile, 'utf8').trim().split(' ');
  return stampedHash === hash && stampedPlatform === platform() && (kind === 'all' || !forTests);
}

function installedPackagesFit() {
  return packagesFit((entry) => !entry.dev && !entry.devOptional) && (!forTests || developmentPackagesFit());
}

function developmentPackagesFit() {
  return packagesFit(() => true);
}

/** Whether what npm last installed are the locked versions of the packages asked for. */
function packagesFit(isAskedFor) {
  const installedFile = `${root}node_modules/.package-lock.json`;
  if (!existsSync(installedFile)) return false;
  const installed = JSON.parse(readFileSync(installedFile, 'utf8')).packages;
  return Object.entries(JSON.parse(lockText).packages).every(([path, entry]) => {
    if (path === '' || !isAskedFor(entry)) return true;
    if (installed[path] === undefined) return entry.optional === true && !isMadeForThisMachine(entry);
    return installed[path].integrity === entry.integrity;
  });
}

/** Of optional packages only these must be there; those that name a C library are left to npm to choose from. */
function isMadeForThisMachine(entry) {
  const names = (list, own) => list !== undefined && [list].flat().includes(own);
  return names(entry.os, process.platform) && names(entry.cpu, process.arch) && entry.libc === undefined;
}

async function install() {
  process.stderr.write('millpond: installing packages (npm ci), once\n');
  // npm itself would try for minutes before it says that there is no network; what its cache has it can install without one.
  const away = await unreachable();
  const quiet = ['--loglevel=error', '--no-fund', '--no-audit', '--no-progress'];
  const included = ['--include=optional', forTests ? '--include=dev' : '--omit=dev'];
  const args = ['ci', '--ignore-scripts', ...included, ...quiet, ...(away ? ['--offline'] : [])];
  // npm names itself and its Node in the environment; the Node pinned here is about to be replaced.
  const { npm_execpath: npm, npm_node_execpath: node } = process.env;
  const options = { cwd: root, stdio: ['ignore', 'ignore', away ? 'ignore' : 'inherit'] };
  const { status, error } =
    npm && node ? spawnSync(node, [npm, ...args], options) : spawnSync('npm', args, { ...options, shell: true });
  if (status === 0) return;
  if (away) {
    fail(
      `the packages cannot be installed: ${away}.\nWithout a network, bring node_modules from a machine that has one (docs/air-gap.md), or set npm's registry or proxy`,
    );
  }
  fail(`"npm ci" did not succeed${error ? ` (${error.message})` : ''}; run it by hand to see why`);
}

/** Why the registry of packages cannot be reached, in words; `undefined` where it can, or where a proxy is asked instead. */
async function unreachable() {
  const env = process.env;
  const proxies = [
    'https_proxy',
    'HTTPS_PROXY',
    'http_proxy',
    'HTTP_PROXY',
    'npm_config_https_proxy',
    'npm_config_proxy',
  ];
  if (proxies.some((name) => env[name])) return undefined;
  const registry = env.npm_config_registry || 'https://registry.npmjs.org/';
  const url = URL.canParse(registry) ? new URL(registry) : undefined;
  if (url === undefined) return undefined;
  const port = Number(url.port) || (url.protocol === 'http:' ? 80 : 443);
  const socket = connect({ host: url.hostname.replace(/^\[|\]$/g, ''), port });
  const deadline = AbortSignal.timeout(reachWithinMs);
  try {
    await once(socket, 'connect', { signal: deadline });
    return undefined;
  } catch (error) {
    const why = deadline.aborted ? `no answer within ${reachWithinMs / 1000} s` : (error.code ?? error.message);
    return `${url.host} cannot be reached (${why})`;
  } finally {
    socket.destroy();
  }
}

/** Makes sure that the `node` which npm scripts find first is one that can run the program. */
function checkNode() {
  if (existsSync(pinnedNode)) {
    let tried = tryNode();
    if (tried.status !== 0 && forTests && lacksLibrary(tried) && installLibrary()) tried = tryNode();
    if (tried.status === 0) return;
    if (lacksLibrary(tried)) {
      const said = tried.stderr.trim();
      fail(
        `the Node that comes with Millpond does not run here yet: ${said}\nInstall what it wants (on Debian and Ubuntu: apt-get install libatomic1) and try again`,
      );
    }
    // Built for another C library (musl): out of the way of the system's own.
    rmSync(pinnedNode);
  }
  if (systemNodeMajor() >= oldestNode) return;
  fail(
    `no ready-made Node comes with Millpond for ${platform()}: install Node ${oldestNode} or newer, put it first on the PATH, and try again`,
  );
}

function tryNode() {
  return spawnSync(pinnedNode, ['--version'], { encoding: 'utf8' });
}

function lacksLibrary({ stderr }) {
  return /error while loading shared libraries/.test(stderr ?? '');
}

/** Where the tests install their programs by themselves, this library too. */
function installLibrary() {
  if (process.getuid?.() !== 0 || !existsSync('/etc/debian_version')) return false;
  process.stderr.write('millpond: installing libatomic1, which the pinned Node needs\n');
  const options = { stdio: 'ignore', env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } };
  spawnSync('apt-get', ['-qq', 'update'], options);
  return (
    spawnSync('apt-get', ['-qq', 'install', '--yes', '--no-install-recommends', 'libatomic1'], options).status === 0
  );
}

/** Compiles the program once, so that each start is spared it; a failure costs nothing but that. */
function warmUp() {
  mkdirSync(`${root}node_modules/.cache`, { recursive: true });
  if (existsSync(`${root}bin/millpond`)) spawnSync(`${root}bin/millpond`, ['serve', '--help'], { stdio: 'ignore' });
}

function systemNodeMajor() {
  return Number.parseInt(spawnSync('node', ['--version'], { encoding: 'utf8' }).stdout?.slice(1) ?? '0', 10);
}

function platform() {
  return `${process.platform}-${process.arch}`;
}

function fail(message) {
  process.stderr.write(`millpond: ${message}\n`);
  process.exit(1);
}
