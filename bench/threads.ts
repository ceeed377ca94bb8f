import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type Contestant, startMillpond } from './contestants.ts';
import { type Load, loadWithWrk } from './load.ts';
import { atLeast, type Row, type RowOptions, type RowResult } from './row.ts';
import { pathOf, pullAndCheck, rotated, setStage } from './stage.ts';
import { median } from './statistics.ts';

const counts = [1, 2] as const;
const connections = 64;
const warmUpSeconds = 6;
const work = `two threads on two cores against one on one: warm manifest by digest, ${connections} connections`;

interface Sample extends Load {
  readonly cpuSeconds: number;
}

/**
 * By the CPU time of each request: the client needs a core, too, so that two cores are never both the server's on a
 * machine with two.
 */
export const threadsRow: Row = { name: 'threads', work, measure };

async function measure(options: RowOptions): Promise<RowResult> {
  await using stack = new AsyncDisposableStack();
  const { directory, upstream } = await setStage(stack, options, { contestants: [] });
  const digest = await upstream.addImage();
  const path = pathOf('manifests', digest);
  const mirrors: { readonly threads: number; readonly contestant: Contestant; readonly samples: Sample[] }[] = [];
  for (const threads of counts) {
    const own = join(directory, `threads-${threads}`);
    await mkdir(own);
    const { profileDirectory } = options;
    const contestant = await startMillpond({
      directory: own,
      upstreamOrigin: upstream.origin,
      threads,
      profileDirectory,
    });
    if (contestant.program) stack.use(contestant.program);
    await pullAndCheck(contestant, path, digest);
    await loadWithWrk({ origin: contestant.origin, path, connections }, { seconds: warmUpSeconds });
    mirrors.push({ threads, contestant, samples: [] });
  }
  for (let repetition = 0; repetition < options.repetitions; repetition++) {
    for (const { contestant, samples } of rotated(mirrors, repetition)) {
      const { origin, program } = contestant;
      const before = program?.cpuSeconds() ?? 0;
      const load = await loadWithWrk({ origin, path, connections }, { seconds: options.seconds });
      samples.push({ ...load, cpuSeconds: (program?.cpuSeconds() ?? 0) - before });
    }
  }
  const microseconds = mirrors.map(({ samples }) =>
    median(samples.map(({ cpuSeconds, requests }) => (cpuSeconds / requests) * 1e6)),
  );
  const [one = Number.NaN, two = Number.NaN] = microseconds;
  const values = { 'CPU µs/request, 1 thread': one, 'CPU µs/request, 2 threads': two };
  return {
    name: threadsRow.name,
    work,
    repetitions: options.repetitions,
    figures: [{ contestant: 'millpond', values }],
    checks: [atLeast('work of one thread', (2 * one) / two, 1.7)],
  };
}
