import type { Contestant } from './contestants.ts';
import { type Pull, pull } from './load.ts';
import { serverCoreSeconds } from './program.ts';
import { atMost, type Check, type ContestantName, type Row, type RowOptions, type RowResult } from './row.ts';
import { pathOf, pullAndCheck, rotated, type Stage, setStage } from './stage.ts';
import { median, medianRatio } from './statistics.ts';

interface ColdRow {
  readonly name: string;
  readonly work: string;
  readonly bytes: number;
  readonly connections: number;
  readonly upstream: { readonly bytesPerSecond: number; readonly latencyMs?: number };
  readonly contestants: readonly ContestantName[];
  /** Where one repetition takes a minute, one is enough. */
  readonly registryOnce: boolean;
  readonly checksOf: (samples: ReadonlyMap<ContestantName, readonly Sample[]>) => Check[];
}

interface Sample extends Pull {
  readonly cpuSeconds: number;
  /** What others have taken of the server's core. */
  readonly otherSeconds: number;
  readonly blobRequests: number;
  readonly allRequests: number;
}

const warmUpBytes = 1024 * 1024;

export const coldRows: readonly Row[] = [
  row({
    name: 'cold',
    work: 'cold 100 MiB from an upstream of 50 MB/s and 50 ms',
    bytes: 100 * 1024 * 1024,
    connections: 1,
    upstream: { bytesPerSecond: 50e6, latencyMs: 50 },
    contestants: ['direct', 'millpond', 'docker-registry'],
    registryOnce: false,
    checksOf(samples) {
      const own = samples.get('millpond');
      const direct = samples.get('direct');
      const registry = samples.get('docker-registry');
      if (!own) return [];
      const checks = [atMost('requests to the upstream', Math.max(...own.map((each) => each.allRequests)), 1)];
      if (direct) {
        checks.push(atMost('time of the direct download', medianRatio(own, direct, secondsOf), 1.05));
        const laterMs = own.map((each, index) => firstOf(each) - firstOf(direct[index % direct.length]!));
        checks.push(atMost('first byte after that of the direct download, ms', median(laterMs), 5));
      }
      if (registry) checks.push(atMost("docker-registry's time", medianRatio(own, registry, secondsOf), 0.5));
      return checks;
    },
  }),
  row({
    name: 'herd',
    work: 'herd: 50 clients, cold 200 MB, upstream of 200 MB/s',
    bytes: 200e6,
    connections: 50,
    upstream: { bytesPerSecond: 200e6 },
    contestants: ['millpond', 'docker-registry'],
    registryOnce: true,
    checksOf(samples) {
      const own = samples.get('millpond');
      const registry = samples.get('docker-registry');
      if (!own) return [];
      const checks = [
        atMost('GETs of the blob at the upstream', Math.max(...own.map((each) => each.blobRequests)), 1),
        atMost("last client's first byte after the first client's, ms", median(own.map(spreadOf)), 100),
      ];
      if (registry) checks.push(atMost("docker-registry's time", medianRatio(own, registry, secondsOf), 0.15));
      return checks;
    },
  }),
];

function row(cold: ColdRow): Row {
  return { name: cold.name, work: cold.work, measure: (options) => measure(cold, options) };
}

async function measure(cold: ColdRow, options: RowOptions): Promise<RowResult> {
  await using stack = new AsyncDisposableStack();
  const stage = await setStage(stack, options, { ...cold.upstream, contestants: cold.contestants });
  for (const contestant of stage.contestants) await warmUp(contestant, stage);
  const samples = new Map<ContestantName, Sample[]>(stage.contestants.map(({ name }) => [name, []]));
  for (let repetition = 0; repetition < options.repetitions; repetition++) {
    for (const contestant of rotated(stage.contestants, repetition)) {
      const each = samples.get(contestant.name) ?? [];
      if (contestant.name === 'docker-registry' && cold.registryOnce && each.length > 0) continue;
      each.push(await sample(cold, contestant, stage));
    }
  }
  return {
    name: cold.name,
    work: cold.work,
    repetitions: options.repetitions,
    figures: [...samples].map(([contestant, each]) => ({ contestant, values: valuesOf(contestant, each) })),
    checks: cold.checksOf(samples),
  };
}

/** A small cold blob through it, checked: the first request of a process is that of no mirror in use. */
async function warmUp(contestant: Contestant, { upstream }: Stage): Promise<void> {
  for (let times = 0; times < 3; times++) {
    const digest = await upstream.addBlob(warmUpBytes);
    await pullAndCheck(contestant, pathOf('blobs', digest), digest);
  }
  await upstream.untilIdle();
}

async function sample(
  { bytes, connections }: ColdRow,
  { origin, program }: Contestant,
  { upstream }: Stage,
): Promise<Sample> {
  const digest = await upstream.addBlob(bytes);
  const allBefore = await upstream.requestCount();
  const before = program?.cpuSeconds() ?? 0;
  const coreBefore = serverCoreSeconds();
  const seen = await pull({ origin, path: pathOf('blobs', digest), connections }, {});
  const cpuSeconds = (program?.cpuSeconds() ?? 0) - before;
  const otherSeconds = Math.max(0, serverCoreSeconds() - coreBefore - cpuSeconds);
  await upstream.untilIdle();
  // The client's own GET of /v2/ before each timed one is no mirror's doing.
  const greetings = origin === upstream.origin ? connections : 0;
  return {
    ...seen,
    cpuSeconds,
    otherSeconds,
    blobRequests: await upstream.timesAsked(digest),
    allRequests: (await upstream.requestCount()) - allBefore - greetings,
  };
}

function valuesOf(name: ContestantName, samples: readonly Sample[]): Record<string, number | undefined> {
  const of = (value: (sample: Sample) => number) => median(samples.map(value));
  return {
    seconds: of(secondsOf),
    'first byte ms': of(firstOf),
    'last first byte ms': of((each) => firstOf(each) + spreadOf(each)),
    'CPU s/GB': name === 'direct' ? undefined : of((each) => (each.cpuSeconds / each.bytes) * 1e9),
    'others %': of((each) => (each.otherSeconds / each.seconds) * 100),
    'client busy %': of((each) => (each.clientCpuSeconds / each.seconds) * 100),
    'GETs of the blob': of((each) => each.blobRequests),
    'requests to the upstream': of((each) => each.allRequests),
  };
}

function secondsOf({ seconds }: Sample): number {
  return seconds;
}

function firstOf({ firstByteMs }: Sample): number {
  return Math.min(...firstByteMs);
}

function spreadOf({ firstByteMs }: Sample): number {
  return Math.max(...firstByteMs) - Math.min(...firstByteMs);
}
