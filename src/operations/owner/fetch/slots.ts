/** Lets only so many pieces of work run at a time, in the order in which they came. */
export class Slots {
  #free: number;
  readonly #queue: (() => void)[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  /** Does the work as soon as there is room for it. @throws what the work throws; the signal's reason if aborted before */
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

/** Waits for all of them, and only then throws what the first that failed has thrown: none is left running behind. */
export async function allOf<Value>(work: Iterable<Promise<Value>>): Promise<Value[]> {
  const settled = await Promise.allSettled(work);
  return settled.map((result) => {
    if (result.status === 'rejected') throw result.reason;
    return result.value;
  });
}
