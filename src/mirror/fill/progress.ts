/** Lets any number of waiters sleep until something has moved; each wake-up wakes all of them once. */
export class Progress {
  #waiters = new Set<() => void>();

  /** @throws the signal's reason when it is aborted first */
  wait(signal: AbortSignal | undefined): Promise<void> {
    if (signal === undefined) return new Promise((resolve) => this.#waiters.add(resolve));
    signal.throwIfAborted();
    return new Promise((resolve, reject) => {
      const wake = () => {
        signal.removeEventListener('abort', abandon);
        resolve();
      };
      const abandon = () => {
        this.#waiters.delete(wake);
        reject(signal.reason);
      };
      signal.addEventListener('abort', abandon, { once: true });
      this.#waiters.add(wake);
    });
  }

  wake(): void {
    const waiters = this.#waiters;
    this.#waiters = new Set();
    for (const wake of waiters) wake();
  }
}
