import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { makeLargeCache } from '../test/support/large-cache.ts';
import { type MillpondOptions, startMillpond } from './contestants.ts';
import { type Load, loadPathsWithWrk } from './load.ts';
import { serverCoreSeconds } from './program.ts';
import { atLeast, atMost, type Row, type RowOptions, type RowResult } from './row.ts';
import { setStage } from './stage.ts';
import { median } from './statistics.ts';

const blobs = 100_000;
const connections = 32;
/** It has nothing left to do when it takes less CPU time than this, in a second, for so many seconds. */
const calmCpuSeconds = 0.05;
const calmSeconds = 15;
const work = `${blobs.toLocaleString('en')} different warm small blobs after a start, ${connections} connections`;

interface Sample extends Load {
  readonly cpuSeconds: number;
  readonly otherSeconds: number;
}

/** Each blob is asked for once, of a mirror that has just started again: nothing of it is in its memory. */
export const warmManyRow: Row = { name: 'warm-many', work, measure };

/** Lets a first mirror make the index of its search: a cache that was served from before has one. */
async function settle(options: MillpondOptions): Promise<void> {
  const { program } = await startMillpond(options);
  await using running = program!;
  const deadline = AbortSignal.timeout(90_000);
  for (let calm = 0, before = running.cpuSeconds(); calm < calmSeconds && !deadline.aborted; ) {
    await delay(1_000);
    const now = running.cpuSeconds();
    calm = now - before < calmCpuSeconds ? calm + 1 : 0;
    before = now;
  }
}

async function measure(options: RowOptions): Promise<RowResult> {
  await using stack = new AsyncDisposableStack();
  const stage = await setStage(stack, options, { contestants: [] });
  const directory = join(stage.directory, 'many');
  await mkdir(directory);
  const cache = await makeLargeCache({ directory: join(directory, 'data'), blobs, hotSizes: [1_000], hotImages: 1 });
  const pathsFile = join(directory, 'paths');
  // In no order, as clients ask: 7919 is a prime, so that each of them comes once.
  const paths = Array.from({ length: cache.coldBlobs }, (_, index) => cache.cold((index * 7919) % cache.coldBlobs));
  await writeFile(pathsFile, paths.join('\n'));
  await settle({ directory, upstreamOrigin: stage.upstream.origin, profileDirectory: undefined });
  const samples: Sample[] = [];
  for (let repetition = 0; repetition < options.repetitions; repetition++) {
    const settings = { directory, upstreamOrigin: stage.upstream.origin, profileDirectory: options.profileDirectory };
    const { origin, program } = await startMillpond({ ...settings, threads: options.threads });
    await using running = program!;
    const before = running.cpuSeconds();
    const coreBefore = serverCoreSeconds();
    const load = await loadPathsWithWrk({ origin, pathsFile, connections }, { seconds: options.seconds });
    const cpuSeconds = running.cpuSeconds() - before;
    samples.push({ ...load, cpuSeconds, otherSeconds: Math.max(0, serverCoreSeconds() - coreBefore - cpuSeconds) });
  }
  const of = (value: (sample: Sample) => number) => median(samples.map(value));
  const values = {
    'requests/s': of((each) => each.requests / each.seconds),
    'CPU µs/request': of((each) => (each.cpuSeconds / each.requests) * 1e6),
    'p50 ms': of((each) => each.p50Ms),
    'p99 ms': of((each) => each.p99Ms),
    'others %': of((each) => (each.otherSeconds / each.seconds) * 100),
  };
  return {
    name: 'warm-many',
    work,
    repetitions: options.repetitions,
    figures: [{ contestant: 'millpond', values }],
    checks: [atLeast('requests/s', values['requests/s'], 10_000), atMost('p99 ms', values['p99 ms'], 5)],
  };
}
