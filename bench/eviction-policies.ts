import { halfLifeMs, heatAfter, recentShare } from '../src/store/eviction-policy.ts';
import { Heap } from './eviction-heap.ts';
import type { Trace, TraceBlob } from './eviction-trace.ts';

const dayMs = 24 * 60 * 60 * 1000;

/** The use of a blob that is priced. */
export interface Use {
  readonly atMs: number;
  readonly bytes: number;
  /** Its priority, if it is in the cache or remembered; else `undefined`. */
  readonly before: number | undefined;
  readonly isStored: boolean;
  /** The highest priority that anything evicted so far has had. */
  readonly floor: number;
}

/** What goes first: the lowest priority among all that is not spared. */
export interface Policy {
  readonly name: string;
  priority(use: Use): number;
  /** Whether what is evicted is remembered with its priority. */
  readonly remembers?: boolean;
  /** Share of the budget that is spared because it was used last. */
  readonly spared?: number;
}

function lrfu(days: number, options: { readonly remembers?: boolean; readonly spared?: number } = {}): Policy {
  const parts = [options.remembers && 'remembering', options.spared && `${options.spared * 100} % spared`];
  return {
    name: [`LRFU ${days} d`, ...parts.filter(Boolean)].join(', '),
    ...options,
    priority: ({ before, atMs }) => heatAfter(before, 1, atMs, days * dayMs),
  };
}

/** The policy of the store, by its own numbers. */
export const ownPolicy: Policy = {
  name: `Millpond (LRFU ${halfLifeMs / dayMs} d, remembering, ${recentShare * 100} % spared)`,
  remembers: true,
  spared: recentShare,
  priority: ({ before, atMs }) => heatAfter(before, 1, atMs),
};

export const lru: Policy = { name: 'LRU by blob', priority: ({ atMs }) => atMs };

/** What is compared. */
export const policies: readonly Policy[] = [
  lru,
  {
    name: 'LFU with dynamic ageing',
    priority: ({ before, isStored, floor }) => (isStored ? before! : Math.max(0, floor)) + 1,
  },
  {
    name: 'GDSF (small ones first to stay)',
    priority: ({ before, isStored, floor, bytes }) => (isStored ? before! : Math.max(0, floor)) + 1e6 / bytes,
  },
  ...[0.1, 0.5, 1, 3, 30].map((days) => lrfu(days)),
  ...[1, 3, 30].map((days) => lrfu(days, { remembers: true })),
  lrfu(3, { spared: 0.1 }),
  ...[1, 30].map((days) => lrfu(days, { remembers: true, spared: 0.1 })),
  ...[0.05, 0.2].map((spared) => lrfu(3, { remembers: true, spared })),
  ownPolicy,
];

/** The share of the bytes asked for that were in the cache. */
export function byteHitRatio(trace: Trace, { policy, budget }: { policy: Policy; budget: number }): number {
  const sizes = trace.blobs.map(({ bytes }) => bytes);
  const stored = new Map<number, number>();
  const remembered = new Map<number, number>();
  const versions = new Map<number, number>();
  const ordinary = new Heap();
  const spared = new Map<number, true>();
  const sparedLimit = budget * (policy.spared ?? 0);
  let [usedBytes, sparedBytes, hitBytes, allBytes, floor] = [0, 0, 0, 0, Number.NEGATIVE_INFINITY];
  const enter = (blob: number): void =>
    ordinary.push({ blob, priority: stored.get(blob)!, version: versions.get(blob)! });
  const unspare = (): number | undefined => {
    const { value: oldest } = spared.keys().next();
    if (oldest === undefined) return undefined;
    spared.delete(oldest);
    sparedBytes -= sizes[oldest]!;
    return oldest;
  };
  const makeOrdinary = (): void => {
    if (sparedBytes <= sparedLimit || spared.size === 1) return;
    enter(unspare()!);
    makeOrdinary();
  };
  const use = ({ id, bytes }: TraceBlob, atMs: number): void => {
    allBytes += bytes;
    const isStored = stored.has(id);
    if (isStored) hitBytes += bytes;
    else usedBytes += bytes;
    const before = stored.get(id) ?? remembered.get(id);
    remembered.delete(id);
    stored.set(id, policy.priority({ atMs, bytes, before, isStored, floor }));
    versions.set(id, (versions.get(id) ?? 0) + 1);
    if (sparedLimit === 0) return enter(id);
    if (spared.delete(id)) sparedBytes -= bytes;
    spared.set(id, true);
    sparedBytes += bytes;
    makeOrdinary();
  };
  const victim = (): number | undefined => {
    for (let entry = ordinary.pop(); entry !== undefined; entry = ordinary.pop()) {
      const isNewest = versions.get(entry.blob) === entry.version;
      if (isNewest && stored.has(entry.blob) && !spared.has(entry.blob)) return entry.blob;
    }
    return unspare();
  };
  for (const { atMs, image } of trace.pulls) {
    const { manifest, layers } = trace.images[image]!;
    for (const blob of [manifest, ...layers]) use(blob, atMs);
    while (usedBytes > budget) {
      const blob = victim()!;
      const priority = stored.get(blob)!;
      floor = Math.max(floor, priority);
      if (policy.remembers) remembered.set(blob, priority);
      stored.delete(blob);
      usedBytes -= sizes[blob]!;
    }
  }
  return hitBytes / allBytes;
}

/** The same for LRU of whole images: a blob stays as long as one of its images does. */
export function byteHitRatioOfImages(trace: Trace, budget: number): number {
  const images = new Set<number>();
  const holders = new Map<number, number>();
  let [usedBytes, hitBytes, allBytes] = [0, 0, 0];
  const partsOf = (image: number): readonly TraceBlob[] => [
    trace.images[image]!.manifest,
    ...trace.images[image]!.layers,
  ];
  for (const { image } of trace.pulls) {
    const isHeld = images.delete(image);
    images.add(image);
    for (const { id, bytes } of partsOf(image)) {
      const held = holders.get(id) ?? 0;
      allBytes += bytes;
      if (held > 0) hitBytes += bytes;
      else usedBytes += bytes;
      if (!isHeld) holders.set(id, held + 1);
    }
    for (const oldest of images) {
      if (usedBytes <= budget) break;
      images.delete(oldest);
      for (const { id, bytes } of partsOf(oldest)) {
        const held = holders.get(id)! - 1;
        holders.set(id, held);
        if (held === 0) usedBytes -= bytes;
      }
    }
  }
  return hitBytes / allBytes;
}

/**
 * The same where the future is known and every byte can be kept or not by itself: no policy can do better.
 * @see Belady, "A study of replacement algorithms for a virtual-storage computer" (1966)
 */
export function bestByteHitRatio(trace: Trace, budget: number): number {
  const asked = trace.pulls.flatMap(({ image }) => [trace.images[image]!.manifest, ...trace.images[image]!.layers]);
  const nextUse = new Float64Array(asked.length);
  const seen = new Map<number, number>();
  for (let index = asked.length - 1; index >= 0; index -= 1) {
    nextUse[index] = seen.get(asked[index]!.id) ?? Number.POSITIVE_INFINITY;
    seen.set(asked[index]!.id, index);
  }
  const kept = new Map<number, number>();
  const versions = new Map<number, number>();
  const latestFirst = new Heap();
  let [usedBytes, hitBytes, allBytes] = [0, 0, 0];
  for (const [index, { id, bytes }] of asked.entries()) {
    const had = kept.get(id) ?? 0;
    allBytes += bytes;
    hitBytes += had;
    usedBytes += bytes - had;
    kept.set(id, bytes);
    versions.set(id, (versions.get(id) ?? 0) + 1);
    latestFirst.push({ blob: id, priority: -nextUse[index]!, version: versions.get(id)! });
    while (usedBytes > budget) {
      const { blob, version } = latestFirst.top!;
      const here = versions.get(blob) === version ? (kept.get(blob) ?? 0) : 0;
      const given = Math.min(here, usedBytes - budget);
      usedBytes -= given;
      kept.set(blob, here === 0 ? (kept.get(blob) ?? 0) : here - given);
      if (given === here) latestFirst.pop();
    }
  }
  return hitBytes / allBytes;
}
