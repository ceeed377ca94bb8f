/**
 * Keeps what does not answer from costing time: open after the first silence, or after slow answers one after another;
 * closed again by a probe behind it.
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

/** Nothing came in time; the message is a clause about who was asked. */
export class SilenceError extends Error {
  override readonly name = 'SilenceError';
}

/** How many answers in a row may be slow: with the last of them nothing is asked any more. */
const maxSlow = 3;

/** What is waited for. */
export interface Question {
  /** It has taken long. @returns whether all answers have, for a while */
  late(): boolean;
  /** There is an answer, or there will be none. */
  ended(): void;
}

/** Tells answers that are slow one after another from one that was. */
export class Pace {
  #slow = 0;
  /** One of those that are slow is waited for: others that are asked meanwhile say the same. */
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
 * Waits for a result for so long. Where this process itself was too busy to see it, it is looked for once more.
 * @param options `isTooSlow`: asked once, where it takes longer than `slowMs` and this process has had the time to see it
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

/** Runs something when what has arrived by now has been read. */
function afterReading(act: () => void): void {
  setImmediate(() => setImmediate(act));
}
