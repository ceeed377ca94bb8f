import { afterReading } from '../waiting/after-reading.ts';

/**
 * Stops asking a service that does not answer: open after the first timeout, or after several slow answers in a row;
 * closed again by background probes.
 */
export class Breaker {
  #reason: string | undefined = 'has not been reached yet';

  /** Why nothing is asked now; `undefined`: it may be asked. */
  get reason(): string | undefined {
    return this.#reason;
  }

  get isClosed(): boolean {
    return this.#reason === undefined;
  }

  /** @returns whether it was closed */
  open(reason: string): boolean {
    const wasClosed = this.isClosed;
    this.#reason = reason;
    return wasClosed;
  }

  /** @returns whether it was open */
  close(): boolean {
    const wasOpen = !this.isClosed;
    this.#reason = undefined;
    return wasOpen;
  }
}

/** Nothing came in time; the message is a clause about the service. */
export class SilenceError extends Error {
  override readonly name = 'SilenceError';
}

/** How many slow answers in a row open the breaker. */
const maxSlow = 3;

/** A pending question. */
export interface Question {
  /** The answer is late. @returns whether all answers have been late for a while */
  late(): boolean;
  /** The answer has come, or will not come. */
  ended(): void;
}

/** Distinguishes answers that are slow repeatedly from a single one. */
export class Pace {
  #slow = 0;
  /** A slow answer is pending: others asked meanwhile prove nothing more. */
  #isWaiting = false;
  #endedMs = Number.NEGATIVE_INFINITY;

  ask(): Question {
    const askedMs = performance.now();
    let isLate = false;
    let isCounted = false;
    return {
      late: () => {
        isLate = true;
        if (this.#isWaiting || askedMs < this.#endedMs) return false;
        this.#isWaiting = true;
        isCounted = true;
        this.#slow += 1;
        return this.#slow >= maxSlow;
      },
      ended: () => {
        if (!isLate) this.#slow = 0;
        if (!isCounted) return;
        this.#isWaiting = false;
        this.#endedMs = performance.now();
      },
    };
  }
}

/**
 * Waits for a result for a limited time. If this process itself was too busy to see it, it looks once more.
 * @param options `isTooSlow`: called once if it takes longer than `slowMs` while this process had time to see it
 * @throws SilenceError; what the work throws
 */
export function within<Value>(
  work: Promise<Value>,
  { deadlineMs, slowMs, isTooSlow }: { deadlineMs: number; slowMs: number; isTooSlow: () => boolean },
): Promise<Value> {
  const { promise, resolve, reject } = Promise.withResolvers<Value>();
  const askedMs = performance.now();
  let isOver = false;
  const slow = setTimeout(() => {
    if (performance.now() - askedMs > 1.5 * slowMs) return;
    afterReading(() => {
      if (!isOver && isTooSlow()) reject(new SilenceError('answers too slowly'));
    });
  }, slowMs);
  const silent = setTimeout(() => afterReading(() => reject(new SilenceError('does not answer'))), deadlineMs);
  work.then(resolve, reject).finally(() => {
    isOver = true;
    clearTimeout(slow);
    clearTimeout(silent);
  });
  return promise;
}
