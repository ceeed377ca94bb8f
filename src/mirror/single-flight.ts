/** Lets those who want the same thing at the same time share one piece of work. */
export class SingleFlight<Value> {
  readonly #flights = new Map<string, Promise<Value>>();

  /**
   * The result of the work under way for `key`, or of `work` begun now. The work has no client's signal: one who leaves
   * changes nothing for the others, and all get its result or its error.
   * @throws what the work throws; the signal's reason when this waiter is abandoned first
   */
  async run(key: string, work: () => Promise<Value>, { signal }: { signal: AbortSignal }): Promise<Value> {
    let flight = this.#flights.get(key);
    if (flight === undefined) {
      flight = work().finally(() => this.#flights.delete(key));
      this.#flights.set(key, flight);
    }
    return await abandonable(flight, signal);
  }
}

/** Waits for a promise only as long as a signal lets us; what the promise comes to later is dropped. */
export async function abandonable<Value>(promise: Promise<Value>, signal: AbortSignal): Promise<Value> {
  promise.catch(() => undefined);
  signal.throwIfAborted();
  const { promise: abandoned, reject } = Promise.withResolvers<never>();
  const abandon = () => reject(signal.reason);
  signal.addEventListener('abort', abandon, { once: true });
  try {
    return await Promise.race([promise, abandoned]);
  } finally {
    signal.removeEventListener('abort', abandon);
  }
}
