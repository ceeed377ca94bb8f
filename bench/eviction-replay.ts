// Replays pulls against a mirror with a small budget, over HTTP, and looks at every byte:
// node bench/eviction-replay.ts [--pulls 50000] [--images 2000] [--gigabytes 40] [--budget 4] [--kind steady] [--skew 1]
// [--seed 1] [--clients 8]. In full it moves some 3 TB. SIGINT ends it, with a
// report of what has been pulled.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { replay } from '../test/e2e/eviction/replay.ts';
import { startRegistry } from '../test/support/registry.ts';
import { bestByteHitRatio, byteHitRatio, lru, ownPolicy } from './eviction-policies.ts';
import { makeTrace, type TraceKind } from './eviction-trace.ts';

const { values } = parseArgs({
  options: {
    pulls: { type: 'string', default: '50000' },
    images: { type: 'string', default: '2000' },
    gigabytes: { type: 'string', default: '40' },
    budget: { type: 'string', default: '4' },
    kind: { type: 'string', default: 'steady' },
    skew: { type: 'string', default: '1' },
    seed: { type: 'string', default: '1' },
    clients: { type: 'string', default: '8' },
  },
});
const budgetBytes = Number(values.budget) * 1e9;
const trace = makeTrace({
  kind: values.kind as TraceKind,
  seed: Number(values.seed),
  skew: Number(values.skew),
  images: Number(values.images),
  pulls: Number(values.pulls),
  bytes: Number(values.gigabytes) * 1e9,
});
const startMs = performance.now();
await using registry = await startRegistry();
const file = fileURLToPath(new URL('eviction-replay-site.ts', import.meta.url));
// Apart from the terminal, whose SIGINT is for this process alone.
const child = fork(file, [registry.origin, `${budgetBytes}B`], { detached: true });
const interrupted = new AbortController();
process.once('SIGINT', () => interrupted.abort());
const [{ origin, cacheDir }] = (await once(child, 'message')) as [{ origin: string; cacheDir: string }];
const site = { origin, cacheDir, setNow: (nowMs: number) => void child.send({ nowMs }) };
try {
  const { violations, ...figures } = await replay({
    trace,
    registry,
    site,
    budgetBytes,
    clients: Number(values.clients),
    signal: interrupted.signal,
    onProgress: (line) => console.log(`${Math.round((performance.now() - startMs) / 1000)} s: ${line}`),
  });
  const pulled = { ...trace, pulls: trace.pulls.slice(0, figures.pulls) };
  const simulated = {
    lru: byteHitRatio(pulled, { policy: lru, budget: budgetBytes }),
    own: byteHitRatio(pulled, { policy: ownPolicy, budget: budgetBytes }),
    best: bestByteHitRatio(pulled, budgetBytes),
  };
  console.log({ ...figures, simulated, seconds: Math.round((performance.now() - startMs) / 1000) });
  const wrong = [
    ...violations,
    ...(figures.byteHitRatio > simulated.lru ? [] : ['the byte hit ratio is not better than that of LRU']),
  ];
  console.log(wrong.length === 0 ? 'nothing was wrong' : `WRONG:\n${wrong.join('\n')}`);
  process.exitCode = wrong.length === 0 ? 0 : 1;
} finally {
  child.disconnect();
  await once(child, 'exit');
}
