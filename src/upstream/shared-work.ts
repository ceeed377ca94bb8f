interface Flight<T> {
  readonly controller: AbortController;
  readonly result: Promise<T>;
  waiters: number;
}

/** Work that many wait for and one does. It is abandoned only when the last of those who wait has left. */
export class SharedWork<T> {
  readonly #flights = new Map<string, Flight<T>>();

  /**
   * Joins the work of this key, or begins it.
   * @param options.signal this caller's own: it leaves, the others go on waiting
   * @throws what the work threw, for all who wait; the signal's reason
   */
  async join(
    key: string,
    { signal, begin }: { readonly signal: AbortSignal; readonly begin: (signal: AbortSignal) => Promise<T> },
  ): Promise<T> {
    signal.throwIfAborted();
    const flight = this.#flights.get(key) ?? this.#begin(key, begin);
    flight.waiters += 1;
    try {
      return await untilAborted(flight.result, signal);
    } finally {
      flight.waiters -= 1;
      if (flight.waiters === 0) {
        this.#forget(key, flight);
        // Why the last one left says whether the work took too long.
        flight.controller.abort(signal.reason);
      }
    }
  }

  #begin(key: string, begin: (signal: AbortSignal) => Promise<T>): Flight<T> {
    const controller = new AbortController();
    const flight = { controller, result: begin(controller.signal), waiters: 0 };
    this.#flights.set(key, flight);
    const forget = (): void => this.#forget(key, flight);
    void flight.result.then(forget, forget);
    return flight;
  }

  #forget(key: string, flight: Flight<T>): void {
    if (this.#flights.get(key) === flight) this.#flights.delete(key);
  }
}

/** Waits for a result only as long as a signal lets us. @throws the signal's reason */
export function untilAborted<T>(result: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  const leave = (): void => reject(signal.reason as Error);
  if (signal.aborted) leave();
  else signal.addEventListener('abort', leave, { once: true });
  result.then(resolve, reject).finally(() => signal.removeEventListener('abort', leave));
  return promise;
}
