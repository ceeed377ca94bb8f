import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { get, json } from '../../support/client.ts';
import { startMillpond } from '../../support/millpond.ts';
import { startRegistry } from '../../support/registry.ts';
import { metric } from '../eviction/replay.ts';
import { checkAlone, DiskCheck } from './checks.ts';
import { Random } from './random.ts';
import { repositories, untilSent, Workload } from './workload.ts';

const program = fileURLToPath(new URL('../../../bin/millpond', import.meta.url));
const upstreamBytesPerSecond = 12_000_000;
/** Only a kill may cost a client its answer: the registry always answers, however busy the machine is. */
export const endless = { connect: '10m', headers: '10m', idle: '10m', answer: '10m', clientIdle: '10m' };
/** Of the mirror under load, so that kills meet evictions; the one that has lost its upstream keeps what it has. */
const smallBudgets = ['8MB', '30MB', '1GB'];
/** One kill in so many comes while the process starts. */
const startKillShare = 0.2;

export interface KillOptions {
  /** How often the mirror is killed. */
  readonly count: number;
  readonly seed: number;
  /** Folder for the configuration and the cache; kept. */
  readonly directory: string;
  /** Told of each kill and of what was found after it. */
  readonly onKill?: (line: string) => void;
}

/** What became of a mirror that was killed again and again. */
export interface KillReport {
  readonly violations: readonly string[];
  /** Kills while clients pulled, and kills while the process started. */
  readonly kills: { readonly underLoad: number; readonly atStart: number };
  readonly rightBodies: number;
  readonly lostAnswers: number;
  /** Blobs on disk at the end, all of them with their digest. */
  readonly rightBlobs: number;
  /** The most files that were under `ingest/` at a time. */
  readonly mostPartials: number;
  /** Blobs evicted while clients pulled, as far as it was known when the kill came. */
  readonly evictedBlobs: number;
  /** Answers about tags right after a restart, with the upstream gone. */
  readonly alone: { readonly served: number; readonly refused: number };
}

/**
 * Kills `millpond serve` with SIGKILL at random moments while clients pull and tags move, starts it again on the same
 * directory each time, and looks at what is on disk and at what it answers without its upstream. Stops at the first
 * violation.
 */
export async function killAgainAndAgain({ count, seed, directory, onKill }: KillOptions): Promise<KillReport> {
  const random = new Random(seed);
  await using registry = await startRegistry({ bytesPerSecond: { perConnection: upstreamBytesPerSecond } });
  // Clients draw numbers of their own: how many is chance, and what is done when must not depend on it.
  const workload = new Workload(registry, new Random(seed + 1));
  const disk = new DiskCheck(join(directory, 'data'));
  const kills = { underLoad: 0, atStart: 0 };
  const alone = { served: 0, refused: 0 };
  const violations: string[] = [];
  let evictedBlobs = 0;
  for (let round = 0; round < count && violations.length === 0; round += 1) {
    if (round > 0 && random.next() < startKillShare) {
      const afterMs = random.between(0, 900);
      await killAtStart(directory, afterMs);
      kills.atStart += 1;
      violations.push(...(await disk.violations({ isSwept: false })));
      onKill?.(`${round + 1}/${count} killed ${afterMs} ms after its start`);
      continue;
    }
    await registry.suspend();
    await using mirror = await startMillpond(config(registry.origin, random), { directory });
    violations.push(...(await disk.violations({ isSwept: true })), ...(await controlViolations(directory)));
    const without = await checkAlone(mirror.origin, workload);
    violations.push(...without.violations);
    alone.served += without.served;
    alone.refused += without.refused;
    await registry.resume();
    await changeConfig(directory, {
      ...config(registry.origin, random),
      cache: { maxSize: random.pick(smallBudgets) },
    });
    mirror.process.kill('SIGHUP');
    await mirror.process.untilOutput(/configuration reloaded/);
    const bytes = random.between(0, 12_000_000);
    registry.forgetRequests();
    const killed = new AbortController();
    const load = workload.run(mirror.origin, killed.signal);
    await untilSent(registry, { bytes, signal: killed.signal });
    evictedBlobs += await metric(mirror.origin, 'millpond_evictions_total');
    killed.abort();
    mirror.process.kill('SIGKILL');
    await Promise.all([mirror.process.exited(), load]);
    kills.underLoad += 1;
    violations.push(...workload.violations.splice(0), ...(await disk.violations({ isSwept: false })));
    const left = (await disk.partials()).length;
    onKill?.(
      `${round + 1}/${count} killed when the upstream had sent ${bytes} bytes: ${left} files in ingest/, before it ${without.served} tags served alone`,
    );
  }
  if (violations.length === 0) violations.push(...(await finish(directory, { workload, disk, random })));
  const { rightBodies, lostAnswers } = workload;
  const { mostPartials, rightBlobs } = disk;
  return { violations, kills, rightBodies, lostAnswers, rightBlobs, mostPartials, evictedBlobs, alone };
}

/** Pulls what is still partial: nothing of it is left then, and everything on disk is right from its first byte. */
async function finish(
  directory: string,
  { workload, disk, random }: { workload: Workload; disk: DiskCheck; random: Random },
): Promise<string[]> {
  await using mirror = await startMillpond(config(workload.registry.origin, random), { directory });
  const violations: string[] = [];
  for (const name of await disk.partials()) {
    const digest = name.split('.')[0]?.replace('-', ':') ?? '';
    const urls = repositories.map((repository) => `${mirror.origin}/v2/${repository}/blobs/${digest}`);
    const replies = await Promise.all(urls.map((url) => workload.ask(url)));
    if (!replies.some((reply) => reply?.complete === true && reply.sha256 === digest)) {
      violations.push(`${digest} cannot be completed`);
    }
  }
  await mirror.process.stop();
  const left = await disk.partials();
  if (left.length > 0) violations.push(`${left.length} files are left in ingest/: ${left.join(', ')}`);
  disk.forget();
  return [...violations, ...(await disk.violations({ isSwept: true }))];
}

async function controlViolations(directory: string): Promise<string[]> {
  const unixSocket = join(directory, 'data', 'control.sock');
  const reply = await get('http://localhost/status', { unixSocket }).catch((error: unknown) => String(error));
  if (typeof reply === 'string') return [`the control socket is not there: ${reply}`];
  if (reply.status === 200 && typeof json(reply) === 'object') return [];
  return [`the control socket answers ${reply.status}`];
}

async function killAtStart(directory: string, afterMs: number): Promise<void> {
  const child = spawn(program, ['serve', '--config', join(directory, 'millpond.yaml')], { stdio: 'ignore' });
  const exited = once(child, 'exit');
  await delay(afterMs);
  child.kill('SIGKILL');
  await exited;
}

async function changeConfig(directory: string, changes: Record<string, unknown>): Promise<void> {
  const file = join(directory, 'millpond.yaml');
  const before = JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>;
  const cache = { ...(before['cache'] as object), ...(changes['cache'] as object | undefined) };
  await writeFile(file, JSON.stringify({ ...before, ...changes, cache }));
}

function config(origin: string, random: Random): Record<string, unknown> {
  const tagTtl = random.pick(['0s', '100ms', '1h']);
  const staleWhileRevalidate = random.pick(['0s', '200ms']);
  const connectionsPerBlob = random.pick([1, 3]);
  const negativeTtl = `${random.between(1, 1_000_000)}ms`;
  return {
    defaultUpstream: 'docker.io',
    // Never twice the same, so that a reload makes a new upstream, not known to be gone.
    upstreams: { 'docker.io': { urls: [origin], tagTtl, staleWhileRevalidate, connectionsPerBlob, negativeTtl } },
    timeouts: endless,
  };
}
