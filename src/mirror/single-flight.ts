import { untilAborted } from '../upstream/shared-work.ts';

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
    return await untilAborted(flight, signal);
  }
}
