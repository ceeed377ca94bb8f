import { pull } from './load.ts';
import { atMost, type Figures, type Row, type RowOptions, type RowResult } from './row.ts';
import { pathOf, setStage } from './stage.ts';

const bytes = 1024 ** 3;
const connections = 32;
/** With one thread, and with more. */
const limitMegabytes = { one: 180, more: 260 };
const peerSeconds = 3;
const work = 'peak RSS, 32 clients of a 1 GiB blob';

/**
 * Millpond fills the blob and sends it to all clients, whole. docker-registry, which would fetch it once for each of
 * them, has it before they come and is looked at for a few seconds.
 */
export const memoryRow: Row = { name: 'memory', work, measure };

async function measure(options: RowOptions): Promise<RowResult> {
  await using stack = new AsyncDisposableStack();
  const stage = await setStage(stack, options, { contestants: ['millpond', 'docker-registry'] });
  const path = pathOf('blobs', await stage.upstream.addBlob(bytes));
  const figures: Figures[] = [];
  for (const { name, origin, program } of stage.contestants) {
    const isOwn = name === 'millpond';
    if (!isOwn) await pull({ origin, path, connections: 1 }, {});
    await stage.upstream.untilIdle();
    const idle = program?.peakMemoryBytes() ?? 0;
    const { bytes: sent, seconds } = await pull({ origin, path, connections }, isOwn ? {} : { seconds: peerSeconds });
    const peak = program?.peakMemoryBytes() ?? 0;
    figures.push({
      contestant: name,
      values: { 'MB before': idle / 1e6, 'MB at the peak': peak / 1e6, 'GB sent': sent / 1e9, seconds },
    });
  }
  const own = figures.find(({ contestant }) => contestant === 'millpond')?.values['MB at the peak'];
  const checks =
    own === undefined
      ? []
      : [atMost('peak RSS in MB', own, options.threads === 1 ? limitMegabytes.one : limitMegabytes.more)];
  return { name: 'memory', work, repetitions: 1, figures, checks };
}
