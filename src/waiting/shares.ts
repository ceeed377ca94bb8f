interface Waiter {
  readonly give: () => void;
}

/** A number of places per key, assigned in order of request: one key never uses the places of another. */
export class Shares {
  readonly #size: number;
  readonly #taken = new Map<string, { count: number; readonly queue: Waiter[] }>();

  /** @param size places for each key */
  constructor(size: number) {
    this.#size = size;
  }

  /**
   * Takes a place of a key as soon as there is one.
   * @returns the place, given back by disposing it, once
   * @throws the signal's reason
   */
  async take(key: string, signal: AbortSignal): Promise<Disposable> {
    signal.throwIfAborted();
    const share = this.#taken.get(key) ?? { count: 0, queue: [] };
    this.#taken.set(key, share);
    if (share.count < this.#size) share.count += 1;
    else await this.#wait(share.queue, signal);
    let isGiven = true;
    return {
      [Symbol.dispose]: () => {
        if (isGiven) this.#giveBack(key);
        isGiven = false;
      },
    };
  }

  #wait(queue: Waiter[], signal: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiter: Waiter = { give: resolve };
    const leave = (): void => {
      const index = queue.indexOf(waiter);
      // One that has been given a place already takes it.
      if (index === -1) return;
      queue.splice(index, 1);
      reject(signal.reason as Error);
    };
    queue.push(waiter);
    signal.addEventListener('abort', leave, { once: true });
    return promise.finally(() => signal.removeEventListener('abort', leave));
  }

  #giveBack(key: string): void {
    const share = this.#taken.get(key);
    if (share === undefined) return;
    const next = share.queue.shift();
    if (next !== undefined) {
      next.give();
      return;
    }
    share.count -= 1;
    if (share.count === 0) this.#taken.delete(key);
  }
}
