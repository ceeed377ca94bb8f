/** Keeps what does not answer from costing time: open after the first silence, closed again by a probe behind it. */
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

/** Nothing came in time. */
export class SilenceError extends Error {
  override readonly name = 'SilenceError';
}

/**
 * Waits for a result for so long. Where this process itself was too busy to see it, it is looked for once more.
 * @throws SilenceError; what the work throws
 */
export function within<Value>(work: Promise<Value>, deadlineMs: number): Promise<Value> {
  const { promise, resolve, reject } = Promise.withResolvers<Value>();
  const timer = setTimeout(() => {
    // What has arrived by now is read before this runs.
    setImmediate(() => setImmediate(() => reject(new SilenceError(`no answer within ${deadlineMs} ms`))));
  }, deadlineMs);
  work.then(resolve, reject).finally(() => clearTimeout(timer));
  return promise;
}
