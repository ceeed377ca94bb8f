import { setTimeout as delay } from 'node:timers/promises';

/** What may be caught up when a timer was late: more would begin each blob with a burst that no line sends. */
const catchUpMs = 4;

/** Lets bytes pass at a rate that all who send share, in the order in which they ask. */
export class Pace {
  readonly #bytesPerMs: number;
  #freeAtMs = 0;

  constructor(bytesPerSecond: number) {
    this.#bytesPerMs = bytesPerSecond / 1000;
  }

  /** Settles when so many bytes may be sent. */
  async take(bytes: number, { signal }: { readonly signal: AbortSignal }): Promise<void> {
    const nowMs = performance.now();
    const startMs = Math.max(this.#freeAtMs, nowMs - catchUpMs);
    this.#freeAtMs = startMs + bytes / this.#bytesPerMs;
    const waitMs = startMs - nowMs;
    if (waitMs > 1) await delay(waitMs, undefined, { signal });
  }
}
