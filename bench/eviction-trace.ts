import { Random } from '../test/e2e/kill/random.ts';

/** A blob of a trace: a layer, or a manifest. */
export interface TraceBlob {
  /** Its place in {@link Trace.blobs}. */
  readonly id: number;
  readonly bytes: number;
}

export interface TraceImage {
  readonly manifest: TraceBlob;
  /** Base layers first. */
  readonly layers: readonly TraceBlob[];
}

/** Somebody pulls a whole image. */
export interface Pull {
  readonly atMs: number;
  /** Its place in {@link Trace.images}. */
  readonly image: number;
}

/** What was pulled when: the same for the same options. */
export interface Trace {
  readonly blobs: readonly TraceBlob[];
  readonly images: readonly TraceImage[];
  readonly pulls: readonly Pull[];
  /** Of all blobs, each counted once. */
  readonly bytes: number;
}

export type TraceKind =
  /** The same images are popular all the time, by Zipf's law. */
  | 'steady'
  /** Every so often a popular image is replaced by one that was not. */
  | 'drifting'
  /** Versions that each node pulls within minutes and hardly anybody later, over a steady ground, and nightly scans. */
  | 'roll-out';

export interface TraceOptions {
  readonly kind: TraceKind;
  readonly seed: number;
  readonly images: number;
  readonly pulls: number;
  /** Of all blobs together, about. */
  readonly bytes: number;
  /** Exponent of Zipf's law: the more, the more pulls go to few images. */
  readonly skew: number;
  readonly days?: number;
}

const dayMs = 24 * 60 * 60 * 1000;
/** Shares of all bytes: layers of few bases, of some runtimes over them, of each image alone. */
const baseShare = 0.025;
const runtimeShare = 0.075;
/** Nodes that take a new version within {@link rollOutMs}. */
const rollOutNodes = 30;
const rollOutMs = 15 * 60 * 1000;

/** A trace over images that share base layers. */
export function makeTrace(options: TraceOptions): Trace {
  const random = new Random(options.seed);
  const blobs: TraceBlob[] = [];
  const add = (bytes: number): TraceBlob => {
    const blob = { id: blobs.length, bytes: Math.max(200, Math.round(bytes)) };
    blobs.push(blob);
    return blob;
  };
  const bases = Math.max(2, Math.round(options.images / 50));
  const runtimes = Math.max(4, Math.round(options.images / 10));
  const layersOf = (meanBytes: number, count: number): TraceBlob[] =>
    Array.from({ length: count }, () => add((spread(random) * meanBytes) / count));
  const baseLayers = Array.from({ length: bases }, () => layersOf((options.bytes * baseShare) / bases, 1));
  const runtimeLayers = Array.from({ length: runtimes }, () => [
    ...random.pick(baseLayers),
    ...layersOf((options.bytes * runtimeShare) / runtimes, 2),
  ]);
  const ownBytes = (options.bytes * (1 - baseShare - runtimeShare)) / options.images;
  const images = Array.from({ length: options.images }, () => ({
    manifest: add(random.between(1500, 4000)),
    layers: [...random.pick(runtimeLayers), ...layersOf(ownBytes, random.between(1, 5))],
  }));
  const pulls = pullsOf(options, random);
  return { blobs, images, pulls, bytes: blobs.reduce((sum, { bytes }) => sum + bytes, 0) };
}

/** Log-normal around 1: most are small, a few are many times as large. */
function spread(random: Random): number {
  const normal = Math.sqrt(-2 * Math.log(1 - random.next())) * Math.cos(2 * Math.PI * random.next());
  return Math.min(12, Math.exp(0.9 * normal - 0.405));
}

function pullsOf({ kind, images, pulls: count, skew, days = 30 }: TraceOptions, random: Random): Pull[] {
  const lengthMs = days * dayMs;
  const ranked = shuffled(images, random);
  // Half of the pulls of a roll-out trace are of versions and scans, whose images nobody else pulls.
  const ground = kind === 'roll-out' ? ranked.slice(0, Math.ceil(images / 2)) : ranked;
  const groundCount = kind === 'roll-out' ? Math.round(count / 2) : count;
  const pick = zipf(ground.length, skew, random);
  const pulls: Pull[] = [];
  for (let index = 0; index < groundCount; index += 1) {
    // All popularity is exchanged about three times over.
    if (kind === 'drifting' && random.next() < (3 * images) / count) {
      const one = pick();
      const other = random.between(0, ground.length);
      [ground[one], ground[other]] = [ground[other] as number, ground[one] as number];
    }
    pulls.push({ atMs: (index / groundCount) * lengthMs, image: ground[pick()] as number });
  }
  if (kind !== 'roll-out') return pulls;
  const rest = ranked.slice(ground.length);
  const scanned = rest.splice(0, Math.ceil(rest.length / 3));
  const scans = Math.max(1, Math.min(days, Math.round((count - groundCount) / 4 / scanned.length)));
  for (let scan = 0; scan < scans; scan += 1) {
    const startMs = ((scan + 0.5) / scans) * lengthMs;
    for (const [index, image] of scanned.entries()) pulls.push({ atMs: startMs + index * 20_000, image });
  }
  // A version that most take at once, and some who come later in the day.
  for (let version = 0; pulls.length < count; version += 1) {
    const image = rest[version % rest.length] as number;
    const startMs = random.next() * (lengthMs - dayMs);
    for (let node = 0; node < rollOutNodes && pulls.length < count; node += 1) {
      const within = node < rollOutNodes * 0.8 ? rollOutMs : dayMs / 2;
      pulls.push({ atMs: startMs + random.next() * within, image });
    }
  }
  return pulls.sort((one, other) => one.atMs - other.atMs);
}

/** Picks a rank from 0 on, the first most often. */
function zipf(count: number, skew: number, random: Random): () => number {
  const sums: number[] = [];
  let sum = 0;
  for (let rank = 1; rank <= count; rank += 1) sums.push((sum += rank ** -skew));
  return () => {
    const wanted = random.next() * sum;
    let [low, high] = [0, count - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((sums[middle] as number) < wanted) low = middle + 1;
      else high = middle;
    }
    return low;
  };
}

function shuffled(count: number, random: Random): number[] {
  const order = Array.from({ length: count }, (_, index) => index);
  for (let index = count - 1; index > 0; index -= 1) {
    const other = random.between(0, index + 1);
    [order[index], order[other]] = [order[other] as number, order[index] as number];
  }
  return order;
}
