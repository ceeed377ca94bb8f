import { type Load, loadWithWrk, pull } from './load.ts';
import { atLeast, atMost, type Row, type RowOptions, type RowResult } from './row.ts';
import { pathOf, pullAndCheck, setStage } from './stage.ts';
import { median } from './statistics.ts';

const perSecond = 300;
/** Beyond the two kilobytes of a manifest; the largest that is kept has 4 MiB. */
const moreBytes = 4 * 1024 * 1024 - 4_096;
const connections = 32;
const largeConnections = 16;
const warmUpSeconds = 4;
const work = `hits of a small manifest, ${connections} connections, beside ${perSecond} requests a second for one of 4 MiB`;

interface Sample {
  readonly alone: Load;
  readonly beside: Load;
  readonly largePerSecond: number;
}

/** What clients of small content suffer from those that ask for the largest manifests. */
export const besideRow: Row = { name: 'large-manifests', work, measure };

async function measure(options: RowOptions): Promise<RowResult> {
  await using stack = new AsyncDisposableStack();
  const { upstream, contestants } = await setStage(stack, options, { contestants: ['millpond'] });
  const [own] = contestants;
  if (own === undefined) return { name: besideRow.name, work, repetitions: 0, figures: [], checks: [] };
  const { origin } = own;
  const large = await upstream.addImage(moreBytes);
  const small = await upstream.addImage();
  for (const digest of [large, small]) await pullAndCheck(own, pathOf('manifests', digest), digest);
  const hits = { origin, path: pathOf('manifests', small), connections };
  const others = { origin, path: pathOf('manifests', large), connections: largeConnections };
  await loadWithWrk(hits, { seconds: warmUpSeconds });
  const samples: Sample[] = [];
  for (let repetition = 0; repetition < options.repetitions; repetition++) {
    const { seconds } = options;
    const alone = await loadWithWrk(hits, { seconds });
    const [beside, pulled] = await Promise.all([
      loadWithWrk(hits, { seconds }),
      pull(others, { seconds: seconds + 0.5, perSecond }),
    ]);
    samples.push({ alone, beside, largePerSecond: pulled.requests / pulled.seconds });
  }
  const of = (value: (sample: Sample) => number) => median(samples.map(value));
  const values = {
    'hits/s alone': of(({ alone }) => alone.requests / alone.seconds),
    'p99 ms alone': of(({ alone }) => alone.p99Ms),
    'hits/s beside': of(({ beside }) => beside.requests / beside.seconds),
    'p99 ms beside': of(({ beside }) => beside.p99Ms),
    'large/s': of(({ largePerSecond }) => largePerSecond),
  };
  return {
    name: besideRow.name,
    work,
    repetitions: options.repetitions,
    figures: [{ contestant: 'millpond', values }],
    checks: [
      // Where the machine cannot do that many, the other figure says nothing.
      atLeast('large manifests a second', values['large/s'], 0.95 * perSecond),
      atMost(
        'p99 of the same hits alone',
        of(({ alone, beside }) => beside.p99Ms / alone.p99Ms),
        2,
      ),
    ],
  };
}
