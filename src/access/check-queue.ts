/** Most checks of one client that wait. */
const maxPerClient = 16;
/** Most checks that wait. */
const maxWaiting = 1_000;

interface Entry {
  readonly run: () => Promise<void>;
}

/**
 * Lets one check run at a time and others wait: clients take turns, however many checks one of them has brought.
 */
export class CheckQueue {
  readonly #clients = new Map<string, Entry[]>();
  #waiting = 0;
  #isRunning = false;

  /**
   * Runs work when it is the turn of its client.
   * @param client whose it is
   * @returns `undefined` where too much waits already
   */
  enter<Value>(client: string, work: () => Promise<Value>): Promise<Value> | undefined {
    const entries = this.#clients.get(client) ?? [];
    if (entries.length >= maxPerClient || this.#waiting >= maxWaiting) return undefined;
    const { promise, resolve, reject } = Promise.withResolvers<Value>();
    entries.push({ run: () => work().then(resolve, reject) });
    this.#clients.set(client, entries);
    this.#waiting += 1;
    if (!this.#isRunning) void this.#run();
    return promise;
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    for (;;) {
      const [first] = this.#clients;
      if (first === undefined) break;
      const [client, entries] = first;
      const entry = entries.shift();
      // A caller that has had a turn moves to the end.
      this.#clients.delete(client);
      if (entries.length > 0) this.#clients.set(client, entries);
      this.#waiting -= 1;
      await entry?.run();
    }
    this.#isRunning = false;
  }
}
