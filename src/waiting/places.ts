/** A limited number of places, given in the order in which they were asked for. */
export class Places {
  readonly #limits: { readonly maxFills: number };
  readonly #queue: { readonly who: unknown; readonly settle: (isGiven: boolean) => void }[] = [];
  #taken = 0;
  #isClosed = false;

  /** @param limits read each time: it may be changed while the mirror runs */
  constructor(limits: { readonly maxFills: number }) {
    this.#limits = limits;
  }

  /** Number of callers that wait for a place. */
  get waiting(): number {
    return this.#queue.length;
  }

  /** Whether `who` waits for a place. */
  isWaiting(who: unknown): boolean {
    return this.#queue.some((entry) => entry.who === who);
  }

  /** Takes a place as soon as there is one. @returns false where {@link leave} was called for it first */
  async take(who: unknown): Promise<boolean> {
    if (this.#isClosed || (this.#queue.length === 0 && this.#taken < this.#limits.maxFills)) {
      this.#taken += 1;
      return true;
    }
    const { promise, resolve } = Promise.withResolvers<boolean>();
    this.#queue.push({ who, settle: resolve });
    return await promise;
  }

  /** Gives a place back; the caller that has waited longest gets it. */
  giveBack(): void {
    this.#taken -= 1;
    this.#hand();
  }

  /** Stops waiting for a place. */
  leave(who: unknown): void {
    const index = this.#queue.findIndex((entry) => entry.who === who);
    if (index !== -1) this.#queue.splice(index, 1)[0]?.settle(false);
  }

  /** Gives a place to every waiting caller, now and from now on: what they start then ends at once. */
  close(): void {
    this.#isClosed = true;
    this.#hand();
  }

  #hand(): void {
    while (this.#queue.length > 0 && (this.#isClosed || this.#taken < this.#limits.maxFills)) {
      this.#taken += 1;
      this.#queue.shift()?.settle(true);
    }
  }
}
