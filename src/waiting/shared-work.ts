import { untilAborted } from './until-aborted.ts';

interface Flight<T> {
  readonly controller: AbortController;
  readonly result: Promise<T>;
  waiters: number;
}

/** Work that many callers wait for and that runs once. It is abandoned when the last of them has left. */
export class SharedWork<T> {
  readonly #flights = new Map<string, Flight<T>>();

  /**
   * Joins the work under way for a key, or starts it.
   * @param options.signal this caller's own: it stops waiting, the others go on
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
        // The reason of the last caller tells whether the work took too long.
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
