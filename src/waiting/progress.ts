/** Up to here every chunk wakes waiters, afterwards this many bytes or this much time: each wake-up costs. */
const eagerBytes = 256 * 1024;
const announceBytes = 1024 * 1024;
const announceMs = 3;

/** Lets any number of waiters sleep until there is progress; each wake-up wakes all of them once. */
export class Progress {
  #waiters = new Set<() => void>();
  #unannouncedBytes = 0;
  #announcing: NodeJS.Timeout | undefined;

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

  /** Bytes have arrived: the first wake waiters at once, later ones by the megabyte or a moment later. */
  received(position: number, bytes: number): void {
    this.#unannouncedBytes += bytes;
    if (position <= eagerBytes || this.#unannouncedBytes >= announceBytes) this.wake();
    else this.#announcing ??= setTimeout(() => this.wake(), announceMs);
  }

  wake(): void {
    clearTimeout(this.#announcing);
    this.#announcing = undefined;
    this.#unannouncedBytes = 0;
    const waiters = this.#waiters;
    this.#waiters = new Set();
    for (const wake of waiters) wake();
  }
}
