import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { selfSigned } from '../test/support/certificates.ts';
import { type Contestant, startMillpond, startNodeTls } from './contestants.ts';
import { pullEncrypted } from './load.ts';
import { atLeast, type Row, type RowOptions, type RowResult } from './row.ts';
import { pathOf, rotated, setStage } from './stage.ts';
import { median, medianRatio } from './statistics.ts';

const bytes = 100 * 1024 * 1024;
const times = 6;
const work = `warm blob 100 MiB over TLS, 1 client, ${times} times`;

interface Sample {
  readonly seconds: number;
  readonly cpuSeconds: number;
}

/** Beside a server of Node alone, which encrypts in the same way: the client decrypts, and is often the limit. */
export const tlsRow: Row = { name: 'tls', work, measure };

async function measure(options: RowOptions): Promise<RowResult> {
  await using stack = new AsyncDisposableStack();
  const { directory, upstream } = await setStage(stack, options, { contestants: [] });
  const tls = stack.use(await selfSigned());
  const path = pathOf('blobs', await upstream.addBlob(bytes));
  const file = join(directory, 'blob');
  const response = await fetch(`${upstream.origin}${path}`);
  await writeFile(file, Buffer.from(await response.arrayBuffer()));
  const [own, other] = [join(directory, 'millpond'), join(directory, 'node')];
  for (const each of [own, other]) await mkdir(each);
  const { threads, profileDirectory } = options;
  const contestants: Contestant[] = [
    await startMillpond({ directory: own, upstreamOrigin: upstream.origin, threads, profileDirectory, tls }),
    await startNodeTls({ directory: other, file, tls }),
  ];
  for (const { program } of contestants) if (program) stack.use(program);
  for (const { origin } of contestants) await pullEncrypted({ origin, path }, times);
  const samples = contestants.map((contestant) => ({ contestant, all: new Array<Sample>() }));
  for (let repetition = 0; repetition < options.repetitions; repetition++) {
    for (const { contestant, all } of rotated(samples, repetition)) all.push(await sample(contestant, path));
  }
  const figures = samples.map(({ contestant: { name }, all }) => {
    const gigabytes = (times * bytes) / 1e9;
    const values = {
      'GB/s': median(all.map(({ seconds }) => gigabytes / seconds)),
      'CPU s/GB': median(all.map(({ cpuSeconds }) => cpuSeconds / gigabytes)),
    };
    return { contestant: name, values };
  });
  const [ours = [], theirs = []] = samples.map(({ all }) => all);
  const byCpu = medianRatio(theirs, ours, ({ cpuSeconds }) => cpuSeconds);
  const checks = [atLeast("work of Node's own TLS server, by CPU time", byCpu, 0.9)];
  return { name: tlsRow.name, work, repetitions: options.repetitions, figures, checks };
}

async function sample({ origin, program }: Contestant, path: string): Promise<Sample> {
  const before = program?.cpuSeconds() ?? 0;
  const beganMs = performance.now();
  await pullEncrypted({ origin, path }, times);
  return { seconds: (performance.now() - beganMs) / 1000, cpuSeconds: (program?.cpuSeconds() ?? 0) - before };
}
