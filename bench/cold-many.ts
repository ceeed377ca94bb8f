import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Contestant } from './contestants.ts';
import { type Load, pullEach } from './load.ts';
import { usePages } from './pages.ts';
import { serverCoreSeconds } from './program.ts';
import { atLeast, atMost, type Check, type ContestantName, type Row, type RowOptions, type RowResult } from './row.ts';
import { pathOf, rotated, type Stage, setStage } from './stage.ts';
import { median, medianRatio } from './statistics.ts';

interface ManyRow {
  readonly name: string;
  readonly work: string;
  readonly bytes: number;
  /** Different blobs in one measurement, and before the first one. */
  readonly blobs: number;
  readonly warmUpBlobs: number;
  readonly connections: number;
  readonly checksOf: (samples: ReadonlyMap<ContestantName, readonly Sample[]>) => Check[];
}

interface Sample extends Load {
  readonly cpuSeconds: number;
  /** What others have taken of the server's core. */
  readonly otherSeconds: number;
  /** By how much the server has grown, in bytes. */
  readonly grownBytes: number;
}

const MiB = 1024 * 1024;

/** Cold blobs, each of them once, from an upstream without a limit: a registry in the same region is that fast. */
export const coldManyRows: readonly Row[] = [
  row({
    name: 'cold-1m',
    work: 'cold blobs of 1 MiB one after the other, upstream without limit',
    bytes: MiB,
    blobs: 100,
    warmUpBlobs: 50,
    connections: 1,
    checksOf: (samples) => againstDirect(samples, { time: 1.3, cpuPerGigabyte: 1.7 }),
  }),
  row({
    name: 'cold-100m',
    work: 'cold blobs of 100 MiB one after the other, upstream without limit',
    bytes: 100 * MiB,
    blobs: 4,
    warmUpBlobs: 2,
    connections: 1,
    checksOf: (samples) => againstDirect(samples, { time: 1.8, cpuPerGigabyte: 1.7 }),
  }),
  row({
    name: 'cold-small',
    work: 'cold blobs of 450 bytes, 16 connections, upstream without limit',
    bytes: 450,
    blobs: 10_000,
    warmUpBlobs: 2_000,
    connections: 16,
    checksOf(samples) {
      const own = samples.get('millpond');
      if (!own) return [];
      return [
        atMost('CPU ms a blob', median(own.map(cpuMsOf)), 0.6),
        atLeast('blobs/s', median(own.map(rateOf)), 2_000),
        atMost('MB that the server has grown by', own.reduce((sum, each) => sum + each.grownBytes, 0) / 1e6, 60),
      ];
    },
  }),
];

function row(many: ManyRow): Row {
  return { name: many.name, work: many.work, measure: (options) => measure(many, options) };
}

async function measure(many: ManyRow, options: RowOptions): Promise<RowResult> {
  await using stack = new AsyncDisposableStack();
  const stage = await setStage(stack, options, { contestants: ['direct', 'millpond'] });
  for (const contestant of stage.contestants) await sample({ ...many, blobs: many.warmUpBlobs }, contestant, stage);
  const samples = new Map<ContestantName, Sample[]>(stage.contestants.map(({ name }) => [name, []]));
  for (let repetition = 0; repetition < options.repetitions; repetition++) {
    for (const contestant of rotated(stage.contestants, repetition)) {
      samples.get(contestant.name)?.push(await sample(many, contestant, stage));
    }
  }
  return {
    name: many.name,
    work: many.work,
    repetitions: options.repetitions,
    figures: [...samples].map(([contestant, each]) => ({ contestant, values: valuesOf(contestant, each) })),
    checks: many.checksOf(samples),
  };
}

async function sample(
  { bytes, blobs, connections }: ManyRow,
  { origin, program }: Contestant,
  { upstream, directory }: Stage,
): Promise<Sample> {
  const digests = await upstream.addBlobs(blobs, bytes);
  const pathsFile = join(directory, 'paths');
  await writeFile(pathsFile, digests.map((digest) => pathOf('blobs', digest)).join('\n'));
  await usePages(directory, blobs * bytes * 2);
  const [before, memoryBefore] = [program?.cpuSeconds() ?? 0, program?.memoryBytes() ?? 0];
  const coreBefore = serverCoreSeconds();
  const seen = await pullEach({ origin, pathsFile, connections });
  if (seen.bytes !== blobs * bytes) throw new Error(`${origin} sent ${seen.bytes} bytes instead of ${blobs * bytes}`);
  await upstream.untilIdle();
  const cpuSeconds = (program?.cpuSeconds() ?? 0) - before;
  const otherSeconds = Math.max(0, serverCoreSeconds() - coreBefore - cpuSeconds);
  return { ...seen, cpuSeconds, otherSeconds, grownBytes: (program?.memoryBytes() ?? 0) - memoryBefore };
}

function againstDirect(
  samples: ReadonlyMap<ContestantName, readonly Sample[]>,
  { time, cpuPerGigabyte }: { readonly time: number; readonly cpuPerGigabyte: number },
): Check[] {
  const own = samples.get('millpond');
  const direct = samples.get('direct');
  if (!own) return [];
  const checks = [atMost('CPU s/GB', median(own.map(cpuPerGigabyteOf)), cpuPerGigabyte)];
  if (direct)
    checks.unshift(
      atMost(
        'time of the direct download',
        medianRatio(own, direct, (each) => each.seconds),
        time,
      ),
    );
  return checks;
}

function valuesOf(name: ContestantName, samples: readonly Sample[]): Record<string, number | undefined> {
  const of = (value: (sample: Sample) => number) => median(samples.map(value));
  const ofServer = (value: (sample: Sample) => number) => (name === 'direct' ? undefined : of(value));
  return {
    'blobs/s': of(rateOf),
    'p50 ms': of((each) => each.p50Ms),
    'p99 ms': of((each) => each.p99Ms),
    'CPU ms a blob': ofServer(cpuMsOf),
    'CPU s/GB': ofServer(cpuPerGigabyteOf),
    'grown MB': ofServer((each) => each.grownBytes / 1e6),
    'others %': of((each) => (each.otherSeconds / each.seconds) * 100),
  };
}

function rateOf({ requests, seconds }: Sample): number {
  return requests / seconds;
}

function cpuMsOf({ cpuSeconds, requests }: Sample): number {
  return (cpuSeconds / requests) * 1000;
}

function cpuPerGigabyteOf({ cpuSeconds, bytes }: Sample): number {
  return (cpuSeconds / bytes) * 1e9;
}
