import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { startMillpond } from '../../support/millpond.ts';
import { startRegistry } from '../../support/registry.ts';
import { checkAlone, DiskCheck } from './checks.ts';
import { Random } from './random.ts';
import { endless, type KillOptions } from './run.ts';
import { type MovingTag, untilSent, Workload } from './workload.ts';

const program = fileURLToPath(new URL('../../../bin/millpond', import.meta.url));
const upstreamBytesPerSecond = 16_000_000;
/** One kill in so many comes while the process starts. */
const startKillShare = 0.15;

/** What became of a fetch that was killed again and again. */
export interface FetchKillReport {
  readonly violations: readonly string[];
  /** How many of the fetches were still under way when the kill came. */
  readonly killed: number;
  /** The most files that were under `ingest/` at a time. */
  readonly mostPartials: number;
  /** Answers about tags in between, without the upstream. */
  readonly alone: { readonly served: number; readonly refused: number };
  /** Tags that are served without the upstream after the last fetch, which was not killed. */
  readonly servedAtEnd: number;
  readonly tags: number;
}

/**
 * Kills `millpond fetch` with SIGKILL at random moments while it brings images whose tags move, and looks each time at
 * what is on disk and at what an offline mirror makes of it. The last one is left to end.
 */
export async function killFetches({ count, seed, directory, onKill }: KillOptions): Promise<FetchKillReport> {
  const random = new Random(seed);
  await using registry = await startRegistry({ bytesPerSecond: { total: upstreamBytesPerSecond } });
  const workload = new Workload(registry, random);
  const disk = new DiskCheck(join(directory, 'data'));
  const upstreams = { 'docker.io': { urls: [registry.origin], tagTtl: '0s' } };
  await writeFile(
    join(directory, 'fetch.yaml'),
    JSON.stringify({ upstreams, timeouts: endless, cache: { dir: join(directory, 'data'), minFree: '1B' } }),
  );
  // A fetch that is killed early leaves nothing to be looked at.
  for (const folder of ['blobs', 'ingest']) await mkdir(join(directory, 'data', folder), { recursive: true });
  const alone = { served: 0, refused: 0 };
  const violations: string[] = [];
  let killed = 0;
  /** What an offline mirror on the directory answers is whole. */
  const look = async () => {
    await using mirror = await startMillpond({ upstreams, defaultUpstream: 'docker.io', offline: true }, { directory });
    const report = await checkAlone(mirror.origin, workload);
    violations.push(...report.violations);
    return report;
  };
  for (let round = 0; round < count && violations.length === 0; round += 1) {
    const fetch = startFetch(directory, workload);
    const moment = new AbortController();
    let when: string;
    if (random.next() < startKillShare) {
      const afterMs = random.between(0, 900);
      when = `${afterMs} ms after its start`;
      await Promise.race([fetch.exited, delay(afterMs)]);
    } else {
      const bytes = random.between(0, 10_000_000);
      when = `when the upstream had sent ${bytes} bytes`;
      await Promise.race([fetch.exited, untilSent(registry, { bytes, signal: moment.signal })]);
    }
    moment.abort();
    if (fetch.kill()) killed += 1;
    await fetch.exited;
    registry.forgetRequests();
    violations.push(...(await disk.violations({ isSwept: false })));
    const { served, refused } = await look();
    alone.served += served;
    alone.refused += refused;
    onKill?.(`${round + 1}/${count} killed ${when}: ${served} tags are whole, ${refused} are not there`);
    for (const moving of workload.tags) if (random.next() < 0.3) workload.move(moving);
  }
  const code = await startFetch(directory, workload).exited;
  if (code !== 0) violations.push(`the last fetch ended with ${String(code)}`);
  const wanted = workload.tags.flatMap((moving) => blobsOf(workload, moving));
  const left = await disk.partials();
  // What a killed fetch has begun of images that no tag stands for any more waits for its next start.
  const forgotten = left.filter((name) => wanted.some((digest) => name.startsWith(digest.replace(':', '-'))));
  if (forgotten.length > 0) violations.push(`partial after a fetch that ended: ${forgotten.join(', ')}`);
  disk.forget();
  violations.push(...(await disk.violations({ isSwept: true })));
  const { served } = await look();
  const { mostPartials } = disk;
  return { violations, killed, mostPartials, alone, servedAtEnd: served, tags: workload.tags.length };
}

/** The blobs of what a tag stands for now. */
function blobsOf({ images, children }: Workload, { history }: MovingTag): string[] {
  const digest = history.at(-1)?.digest ?? '';
  const found = children.get(digest) ?? [images.get(digest)];
  return found.flatMap((image) => (image ? [image.config.digest, ...image.layers.map((layer) => layer.digest)] : []));
}

/** `kill` tells whether it was still under way. */
function startFetch(directory: string, workload: Workload): { exited: Promise<unknown>; kill: () => boolean } {
  const images = workload.tags.map(({ repository, tag }) => `docker.io/${repository}:${tag}`);
  const child = spawn(program, ['fetch', '--config', join(directory, 'fetch.yaml'), ...images], { stdio: 'ignore' });
  return {
    exited: once(child, 'exit').then(([code]) => code as unknown),
    kill: () => child.exitCode === null && child.kill('SIGKILL'),
  };
}
