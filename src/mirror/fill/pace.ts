import { LinkedAbort } from '../../waiting/linked-abort.ts';

/** A reader is waited for as long as it takes at least so much: a slower one reads from the file later. */
const leastBytesPerMs = 100_000;
/** The longest wait for a reader that has come to a halt, in milliseconds. */
const mostMs = 50;

export interface PaceOptions {
  /** Whether there is one reader. */
  readonly isAlone: () => boolean;
  readonly signal: AbortSignal;
}

/**
 * Lets a fill wait for its only reader, where that is a little slower than the source: it then takes the bytes from memory,
 * which costs a third of writing them first and reading them again. It never waits for long, and for one of several not at
 * all.
 */
export class Pace {
  readonly #kept: { readonly capacityBytes: number };
  readonly #options: PaceOptions;
  /** Where the reader is; `undefined`: it has not read yet. */
  #readTo: number | undefined;
  #paidTo = 0;
  #allowedMs = mostMs;
  #wake: (() => void) | undefined;

  /** @param kept how many of the bytes that have come last are in memory */
  constructor(kept: { readonly capacityBytes: number }, options: PaceOptions) {
    this.#kept = kept;
    this.#options = options;
  }

  /** The reader wants the bytes from a position on: it has those before. */
  reached(position: number): void {
    this.#readTo = position;
    this.#wake?.();
  }

  /** The number of readers has changed. */
  changed(): void {
    this.#wake?.();
  }

  /**
   * Waits until the reader is near enough, or has taken too long.
   * @param filledTo where the bytes end that have come
   * @returns `undefined` where there is nothing to wait for
   */
  wait(filledTo: number): Promise<void> | undefined {
    this.#allowedMs = Math.min(mostMs, this.#allowedMs + Math.max(0, filledTo - this.#paidTo) / leastBytesPerMs);
    this.#paidTo = Math.max(this.#paidTo, filledTo);
    return this.#allowedMs >= 1 && this.#isDue(filledTo) ? this.#wait(filledTo) : undefined;
  }

  async #wait(filledTo: number): Promise<void> {
    using ended = new LinkedAbort(this.#options.signal).timeoutAfter(this.#allowedMs);
    const sinceMs = performance.now();
    while (this.#isDue(filledTo) && !ended.signal.aborted) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      ended.signal.addEventListener('abort', () => resolve(), { once: true });
      await promise;
    }
    this.#wake = undefined;
    this.#allowedMs -= performance.now() - sinceMs;
  }

  /** Whether the reader is behind, and the bytes that it wants next are still in memory. */
  #isDue(filledTo: number): boolean {
    if (this.#readTo === undefined || !this.#options.isAlone()) return false;
    const { capacityBytes } = this.#kept;
    const behindBytes = filledTo - this.#readTo;
    return behindBytes > (capacityBytes * 3) / 4 && behindBytes <= capacityBytes;
  }
}
