// Compares what is evicted first, on replayed traces: node bench/eviction-simulation.ts [--seeds N] [--json]
import { parseArgs } from 'node:util';
import { bestByteHitRatio, byteHitRatio, byteHitRatioOfImages, lru, ownPolicy, policies } from './eviction-policies.ts';
import { makeTrace, type TraceKind } from './eviction-trace.ts';
import { median } from './statistics.ts';

const workloads: readonly { readonly name: string; readonly kind: TraceKind; readonly skew: number }[] = [
  { name: 'steady, Zipf 0.8', kind: 'steady', skew: 0.8 },
  { name: 'steady, Zipf 1.0', kind: 'steady', skew: 1 },
  { name: 'steady, Zipf 1.2', kind: 'steady', skew: 1.2 },
  { name: 'drifting, Zipf 1.0', kind: 'drifting', skew: 1 },
  { name: 'roll-outs and scans, Zipf 0.8', kind: 'roll-out', skew: 0.8 },
  { name: 'roll-outs and scans, Zipf 1.0', kind: 'roll-out', skew: 1 },
];
const size = { images: 2000, pulls: 50_000, bytes: 40e9 };
const budget = 4e9;

const { values } = parseArgs({
  options: { seeds: { type: 'string', default: '3' }, json: { type: 'boolean', default: false } },
});
const seeds = Array.from({ length: Number(values.seeds) }, (_, index) => index + 1);

const ratios = new Map<string, number[][]>();
for (const { kind, skew } of workloads) {
  const found = new Map<string, number[]>();
  for (const seed of seeds) {
    const trace = makeTrace({ ...size, kind, skew, seed });
    const note = (name: string, ratio: number): void => void found.set(name, [...(found.get(name) ?? []), ratio]);
    note('best possible (MIN by bytes)', bestByteHitRatio(trace, budget));
    note('LRU by image', byteHitRatioOfImages(trace, budget));
    for (const policy of policies) note(policy.name, byteHitRatio(trace, { policy, budget }));
  }
  for (const [name, bySeed] of found) ratios.set(name, [...(ratios.get(name) ?? []), bySeed]);
}
if (values.json) {
  console.log(JSON.stringify({ workloads, seeds, ratios: Object.fromEntries(ratios) }, undefined, 2));
} else {
  console.log(
    `| bytes served from the cache, % (median of ${seeds.length} seeds) | ${workloads.map(({ name }) => name).join(' | ')} |`,
  );
  console.log(`|---|${workloads.map(() => '---|').join('')}`);
  for (const [name, columns] of ratios) {
    const cells = columns.map((column) => (100 * median(column)).toFixed(1));
    console.log(`| ${name === ownPolicy.name ? `**${name}**` : name} | ${cells.join(' | ')} |`);
  }
}
const worse = workloads.filter((_, index) =>
  seeds.some((_seed, place) => ratios.get(ownPolicy.name)![index]![place]! <= ratios.get(lru.name)![index]![place]!),
);
if (worse.length > 0) {
  console.error(`not better than ${lru.name}: ${worse.map(({ name }) => name).join('; ')}`);
  process.exitCode = 1;
}
