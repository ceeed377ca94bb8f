/** Limits the number of concurrent tasks; they start in order. */
export class Slots {
  #free: number;
  readonly #queue: (() => void)[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  /** Runs the work as soon as a slot is free. @throws what the work throws; the signal's reason if aborted earlier */
  async run<Value>(work: () => Promise<Value>, { signal }: { readonly signal: AbortSignal }): Promise<Value> {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>((resolve) => this.#queue.push(resolve));
    try {
      signal.throwIfAborted();
      return await work();
    } finally {
      const next = this.#queue.shift();
      if (next) next();
      else this.#free += 1;
    }
  }
}

/** Waits for all tasks, and then throws the error of the first that failed, so that none is left running. */
export async function allOf<Value>(work: Iterable<Promise<Value>>): Promise<Value[]> {
  const settled = await Promise.allSettled(work);
  return settled.map((result) => {
    if (result.status === 'rejected') throw result.reason;
    return result.value;
  });
}
