/** Upper bounds of the classes of durations, in seconds. */
export const durationBounds = [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60, 300] as const;

/** A request of the registry API that has ended. */
export interface EndedRequest {
  readonly upstream: string;
  readonly kind: string;
  readonly result: string;
  /** Of the body. */
  readonly bytes: number;
  readonly seconds: number;
}

/** Requests that ended alike. Plain data: can go to another thread. */
export interface Tally {
  readonly upstream: string;
  readonly kind: string;
  readonly result: string;
  requests: number;
  bytes: number;
  /** All their durations. */
  seconds: number;
  /** How many took at most each of {@link durationBounds}, and more than the one before; last: more than all of them. */
  readonly classes: number[];
}

/** Counts requests: a few additions each, because every request is counted. */
export class Tallies {
  readonly #tallies = new Map<string, Tally>();

  count({ upstream, kind, result, bytes, seconds }: EndedRequest): void {
    const tally = this.#of(upstream, kind, result);
    tally.requests += 1;
    tally.bytes += bytes;
    tally.seconds += seconds;
    let at = 0;
    while (at < durationBounds.length && seconds > durationBounds[at]!) at += 1;
    tally.classes[at]! += 1;
  }

  /** Adds what another thread has counted. */
  add({ upstream, kind, result, requests, bytes, seconds, classes }: Tally): void {
    const tally = this.#of(upstream, kind, result);
    tally.requests += requests;
    tally.bytes += bytes;
    tally.seconds += seconds;
    for (const [at, count] of classes.entries()) tally.classes[at]! += count;
  }

  get all(): Tally[] {
    return [...this.#tallies.values()];
  }

  /** The counts since the last call. */
  take(): Tally[] {
    const taken = this.all;
    this.#tallies.clear();
    return taken;
  }

  #of(upstream: string, kind: string, result: string): Tally {
    const key = `${upstream}\n${kind}\n${result}`;
    const known = this.#tallies.get(key);
    if (known !== undefined) return known;
    const classes = Array.from({ length: durationBounds.length + 1 }, () => 0);
    const tally: Tally = { upstream, kind, result, requests: 0, bytes: 0, seconds: 0, classes };
    this.#tallies.set(key, tally);
    return tally;
  }
}

interface HistogramValue {
  readonly metricName: string;
  readonly labels: Readonly<Record<string, string | number>>;
  readonly value: number;
}

/** The durations as the values of a Prometheus histogram, by kind and result. */
export function durationValues(name: string, tallies: readonly Tally[]): HistogramValue[] {
  const together = new Tallies();
  for (const tally of tallies) together.add({ ...tally, upstream: '' });
  return together.all.flatMap(({ kind, result, requests, seconds, classes }) => {
    let count = 0;
    const buckets = [...durationBounds, '+Inf'].map((le, at) => {
      count += classes[at] ?? 0;
      return { metricName: `${name}_bucket`, labels: { le, kind, result }, value: count };
    });
    return [
      ...buckets,
      { metricName: `${name}_sum`, labels: { kind, result }, value: seconds },
      { metricName: `${name}_count`, labels: { kind, result }, value: requests },
    ];
  });
}
