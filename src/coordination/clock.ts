import { LinkError } from './redis.ts';

/** Redis's clock, which all replicas use because their own may differ. */
export class RedisClock {
  /** Its offset from this process's monotonic clock. */
  #aheadMs: number | undefined;

  /** Sets the clock from an answer of Redis. @param askedMs when it was asked, by the monotonic clock */
  hear(timeMs: number, askedMs: number): void {
    this.#aheadMs = timeMs - (askedMs + performance.now()) / 2;
  }

  /** The approximate current time of Redis. @throws LinkError before the first answer */
  get nowMs(): number {
    if (this.#aheadMs === undefined) throw new LinkError('Redis has not said what time it is');
    return Math.round(performance.now() + this.#aheadMs);
  }
}
