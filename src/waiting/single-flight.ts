import { untilAborted } from './until-aborted.ts';

/** Runs a piece of work once for all callers that ask for it at the same time; it runs to its end even when all of them have left. */
export class SingleFlight<Value> {
  readonly #flights = new Map<string, Promise<Value>>();

  /**
   * The result of the work under way for `key`, or of `work` started now. The work has no client's signal: a caller that
   * leaves changes nothing for the others, and all of them get its result or its error.
   * @throws what the work throws; the signal's reason where this caller leaves first
   */
  async run(key: string, work: () => Promise<Value>, { signal }: { signal: AbortSignal }): Promise<Value> {
    let flight = this.#flights.get(key);
    if (flight === undefined) {
      flight = work().finally(() => this.#flights.delete(key));
      this.#flights.set(key, flight);
    }
    return await untilAborted(flight, signal);
  }
}
