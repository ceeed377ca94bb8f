import { leastBytesPerSecond, leastRateWindowMs } from '../../waiting/least-rate.ts';
import type { Claimant } from '../../waiting/places.ts';
import type { Fill } from './fill.ts';

/** Most fills of one upstream that go on without a place. */
const maxSlow = 256;

/** A fill under way, and whether it has a place: `slow` is one that has given it up. */
export interface Placed extends Claimant {
  readonly fill: Fill;
  place: 'none' | 'taken' | 'slow';
}

interface Watched {
  readonly onSlow: () => void;
  seenBytes: number;
  sinceMs: number;
}

/**
 * Looks at how fast fills come forward. A place is for one that does: one that hardly comes forward goes on without, so
 * that others do not wait for it.
 */
export class RateWatch implements Disposable {
  readonly #watched = new Map<Placed, Watched>();
  #timer: NodeJS.Timeout | undefined;

  /** @param onSlow called once, when the fill has been slow. Disposing ends it */
  watch(placed: Placed, onSlow: () => void): Disposable {
    const { receivedBytes } = placed.fill;
    this.#watched.set(placed, { onSlow, seenBytes: receivedBytes, sinceMs: performance.now() });
    this.#timer ??= setInterval(() => this.#look(), leastRateWindowMs / 3);
    return {
      [Symbol.dispose]: () => {
        this.#watched.delete(placed);
        if (this.#watched.size === 0) this[Symbol.dispose]();
      },
    };
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #look(): void {
    const nowMs = performance.now();
    for (const [placed, watched] of this.#watched) {
      const { fill, group, place } = placed;
      const forMs = nowMs - watched.sinceMs;
      if (forMs < leastRateWindowMs) continue;
      const bytes = fill.receivedBytes - watched.seenBytes;
      watched.seenBytes = fill.receivedBytes;
      watched.sinceMs = nowMs;
      if (place !== 'taken' || bytes >= (leastBytesPerSecond * forMs) / 1000) continue;
      if (this.#slowOf(group) < maxSlow) watched.onSlow();
    }
  }

  #slowOf(group: string): number {
    let count = 0;
    for (const other of this.#watched.keys()) if (other.group === group && other.place === 'slow') count += 1;
    return count;
  }
}
