import { LinkError } from './redis.ts';

/** Redis's clock, which all replicas go by: their own may differ. */
export class RedisClock {
  /** What it is ahead of this process's monotonic clock. */
  #aheadMs: number | undefined;

  /** Redis has said what time it is. @param askedMs when it was asked, by the monotonic clock */
  hear(timeMs: number, askedMs: number): void {
    this.#aheadMs = timeMs - (askedMs + performance.now()) / 2;
  }

  /** What time it is there, about. @throws LinkError before Redis has said so */
  get nowMs(): number {
    if (this.#aheadMs === undefined) throw new LinkError('Redis has not said what time it is');
    return Math.round(performance.now() + this.#aheadMs);
  }
}
