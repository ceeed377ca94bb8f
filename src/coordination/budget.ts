import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Link } from './redis.ts';
import { placeScript } from './scripts.ts';

/** How long a place is kept without a renewal, and how often its holder renews it, in milliseconds. */
const keptMs = 15_000;
const renewMs = 5_000;
/** Longest wait for a place: a budget is a courtesy to the upstream, never a reason to fail a pull. */
const patienceMs = 2_000;
const stepMs = 50;

const noPlace: AsyncDisposable = { [Symbol.asyncDispose]: () => Promise.resolve() };

/** Connections to upstreams, limited for all replicas together. */
export class Budget {
  readonly #link: Link;

  constructor(link: Link) {
    this.#link = link;
  }

  async enter(upstream: string, { max, signal }: { max: number; signal: AbortSignal }): Promise<AsyncDisposable> {
    const link = this.#link;
    const keys = [`budget:{${upstream}}`];
    const place = randomUUID();
    const deadlineMs = performance.now() + patienceMs;
    while ((await link.run(placeScript, keys, [place, max, keptMs])) !== 1) {
      if (performance.now() >= deadlineMs) return noPlace;
      await sleep(stepMs * (0.5 + Math.random()), undefined, { signal });
    }
    const renewing = setInterval(
      () => void link.run(placeScript, keys, [place, max, keptMs]).catch(() => undefined),
      renewMs,
    );
    return {
      [Symbol.asyncDispose]() {
        clearInterval(renewing);
        // The former holder does not wait: a client may be waiting for it.
        void link.run(placeScript, keys, [place, max, 0]).catch(() => undefined);
        return Promise.resolve();
      },
    };
  }
}
