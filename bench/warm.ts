import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Contestant, documentRoot } from './contestants.ts';
import { acceptManifests } from './image.ts';
import { type Load, loadWithWrk, pull } from './load.ts';
import { serverCoreSeconds } from './program.ts';
import { atLeast, atMost, type Check, type ContestantName, type Row, type RowOptions, type RowResult } from './row.ts';
import { pathOf, pullAndCheck, rotated, type Stage, setStage } from './stage.ts';
import { median, medianRatio } from './statistics.ts';

interface WarmRow {
  readonly name: string;
  readonly work: string;
  readonly what: { readonly kind: 'blob'; readonly bytes: number } | { readonly kind: 'digest' | 'tag' };
  readonly connections: number;
  readonly client: 'pull' | 'wrk';
  readonly unit: 'GB/s' | 'requests/s';
  readonly ofNginx: number;
  readonly ofRegistry?: number;
  /** p99 as a multiple of nginx's. */
  readonly p99OfNginx?: number;
  /** p99 as a share of docker-registry's. */
  readonly p99OfRegistry?: number;
}

interface Sample extends Load {
  readonly cpuSeconds: number;
  /** What others have taken of the server's core. */
  readonly otherSeconds: number;
}

const KiB = 1024;
const MiB = 1024 * KiB;

/** Load before the first measurement of a row, for each contestant alike. */
const warmUpSeconds = 6;

export const warmRows: readonly Row[] = [
  row({
    name: 'blob-100m',
    work: 'warm blob 100 MiB, 8 clients',
    what: { kind: 'blob', bytes: 100 * MiB },
    connections: 8,
    client: 'pull',
    unit: 'GB/s',
    ofNginx: 0.85,
    ofRegistry: 1.5,
  }),
  row({
    name: 'blob-100m-1',
    work: 'warm blob 100 MiB, 1 client',
    what: { kind: 'blob', bytes: 100 * MiB },
    connections: 1,
    client: 'pull',
    unit: 'GB/s',
    ofNginx: 0.85,
  }),
  row({
    name: 'blob-1m',
    work: 'warm blob 1 MiB, 8 clients',
    what: { kind: 'blob', bytes: MiB },
    connections: 8,
    client: 'pull',
    unit: 'GB/s',
    ofNginx: 0.85,
    ofRegistry: 5,
  }),
  row({
    name: 'blob-1m-32',
    work: 'warm blob 1 MiB, 32 clients',
    what: { kind: 'blob', bytes: MiB },
    connections: 32,
    client: 'pull',
    unit: 'GB/s',
    ofNginx: 0.85,
  }),
  row({
    name: 'blob-10k',
    work: 'warm blob 10 KiB, 32 clients',
    what: { kind: 'blob', bytes: 10 * KiB },
    connections: 32,
    client: 'wrk',
    unit: 'requests/s',
    ofNginx: 0.7,
    ofRegistry: 30,
  }),
  row({
    name: 'manifest',
    work: 'warm manifest by digest, 64 connections',
    what: { kind: 'digest' },
    connections: 64,
    client: 'wrk',
    unit: 'requests/s',
    ofNginx: 0.85,
    ofRegistry: 30,
    p99OfNginx: 2,
    p99OfRegistry: 1 / 10,
  }),
  row({
    name: 'tag',
    work: 'warm manifest by fresh tag, 64 connections',
    what: { kind: 'tag' },
    connections: 64,
    client: 'wrk',
    unit: 'requests/s',
    ofNginx: 0.8,
    ofRegistry: 100,
    p99OfNginx: 2,
    p99OfRegistry: 1 / 20,
  }),
];

function row(warm: WarmRow): Row {
  return { name: warm.name, work: warm.work, measure: (options) => measure(warm, options) };
}

async function measure(warm: WarmRow, options: RowOptions): Promise<RowResult> {
  await using stack = new AsyncDisposableStack();
  // A row of one that says nothing of docker-registry has no use for it.
  const others: readonly ContestantName[] = warm.ofRegistry === undefined ? [] : ['docker-registry'];
  const stage = await setStage(stack, options, { contestants: ['millpond', 'nginx', ...others] });
  const path = await fill(warm, stage);
  // A mirror runs for weeks: what is measured is not the first seconds, in which code is still being compiled.
  for (const contestant of stage.contestants) await sample(warm, contestant, { path, seconds: warmUpSeconds });
  const samples = new Map<ContestantName, Sample[]>(stage.contestants.map(({ name }) => [name, []]));
  for (let repetition = 0; repetition < options.repetitions; repetition++) {
    for (const contestant of rotated(stage.contestants, repetition)) {
      samples.get(contestant.name)?.push(await sample(warm, contestant, { path, seconds: options.seconds }));
    }
  }
  return {
    name: warm.name,
    work: warm.work,
    repetitions: options.repetitions,
    figures: [...samples].map(([contestant, each]) => ({ contestant, values: valuesOf(warm, each) })),
    checks: checksOf(warm, samples),
  };
}

async function sample(
  { connections, client }: WarmRow,
  { origin, program }: Contestant,
  { path, seconds }: { readonly path: string; readonly seconds: number },
): Promise<Sample> {
  const load = client === 'wrk' ? loadWithWrk : pull;
  const before = program?.cpuSeconds() ?? 0;
  const coreBefore = serverCoreSeconds();
  const seen = await load({ origin, path, connections }, { seconds });
  const cpuSeconds = (program?.cpuSeconds() ?? 0) - before;
  return { ...seen, cpuSeconds, otherSeconds: Math.max(0, serverCoreSeconds() - coreBefore - cpuSeconds) };
}

/** Puts the same bytes into every cache and under nginx, and checks what each of them sends. Gives the path. */
async function fill({ what }: WarmRow, { directory, upstream, contestants }: Stage): Promise<string> {
  const digest = what.kind === 'blob' ? await upstream.addBlob(what.bytes) : await upstream.addImage();
  const reference = what.kind === 'tag' ? 'latest' : digest;
  const path = pathOf(what.kind === 'blob' ? 'blobs' : 'manifests', reference);
  const response = await fetch(`${upstream.origin}${path}`, { headers: { Accept: acceptManifests } });
  const file = join(documentRoot(join(directory, 'nginx')), path.slice(0, path.indexOf('?')));
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, Buffer.from(await response.arrayBuffer()));
  for (const contestant of contestants) {
    for (let attempt = 1; ; attempt++) {
      const before = await upstream.timesAsked(digest);
      await pullAndCheck(contestant, path, digest);
      await upstream.untilIdle();
      if ((await upstream.timesAsked(digest)) === before) break;
      if (attempt === 5) throw new Error(`${contestant.name} does not keep ${path}`);
    }
  }
  return path;
}

function rateOf({ unit }: WarmRow, { bytes, requests, seconds }: Sample): number {
  return (unit === 'GB/s' ? bytes / 1e9 : requests) / seconds;
}

function cpuOf({ unit }: WarmRow, { bytes, requests, cpuSeconds }: Sample): number {
  return cpuSeconds / (unit === 'GB/s' ? bytes : requests);
}

function valuesOf(warm: WarmRow, samples: readonly Sample[]): Record<string, number> {
  const of = (value: (sample: Sample) => number) => median(samples.map(value));
  return {
    [warm.unit]: of((each) => rateOf(warm, each)),
    'CPU s/GB': of((each) => (each.cpuSeconds / each.bytes) * 1e9),
    'CPU µs/request': of((each) => (each.cpuSeconds / each.requests) * 1e6),
    'p50 ms': of((each) => each.p50Ms),
    'p99 ms': of((each) => each.p99Ms),
    'server busy %': of((each) => (each.cpuSeconds / each.seconds) * 100),
    'others %': of((each) => (each.otherSeconds / each.seconds) * 100),
    'client busy %': of((each) => (each.clientCpuSeconds / each.seconds) * 100),
  };
}

function checksOf(warm: WarmRow, samples: ReadonlyMap<ContestantName, readonly Sample[]>): Check[] {
  const own = samples.get('millpond');
  const nginx = samples.get('nginx');
  const registry = samples.get('docker-registry');
  if (!own) return [];
  const compare = (others: readonly Sample[], name: string, limit: number): Check => {
    // How much of the other's work a second of CPU gets done here: steadier than the rate.
    const byCpu = 1 / medianRatio(own, others, (each) => cpuOf(warm, each));
    const ratio = medianRatio(own, others, (each) => rateOf(warm, each));
    return atLeast(`${warm.unit} of ${name}`, ratio, limit, `by CPU time ${byCpu.toPrecision(3)}`);
  };
  const checks: Check[] = [];
  if (nginx) checks.push(compare(nginx, 'nginx', warm.ofNginx));
  if (nginx && warm.p99OfNginx !== undefined) {
    checks.push(
      atMost(
        'p99 of nginx',
        medianRatio(own, nginx, (each) => each.p99Ms),
        warm.p99OfNginx,
      ),
    );
  }
  if (registry && warm.ofRegistry !== undefined) checks.push(compare(registry, 'docker-registry', warm.ofRegistry));
  if (registry && warm.p99OfRegistry !== undefined) {
    const ratio = medianRatio(own, registry, (each) => each.p99Ms);
    checks.push(atMost('p99 of docker-registry', ratio, warm.p99OfRegistry));
  }
  return checks;
}
