/** A fixed number of places, given in the order in which they were asked for. */
export class FillPlaces {
  readonly #limits: { readonly maxFills: number };
  readonly #queue: { readonly who: unknown; readonly settle: (isGiven: boolean) => void }[] = [];
  #taken = 0;
  #isClosed = false;

  /** @param limits read each time: it may be changed while the mirror runs */
  constructor(limits: { readonly maxFills: number }) {
    this.#limits = limits;
  }

  /** How many wait for a place. */
  get waiting(): number {
    return this.#queue.length;
  }

  /** Whether somebody waits for a place. */
  isWaiting(who: unknown): boolean {
    return this.#queue.some((entry) => entry.who === who);
  }

  /** Takes a place as soon as there is one. @returns false where {@link leave} was called first */
  async take(who: unknown): Promise<boolean> {
    if (this.#isClosed || (this.#queue.length === 0 && this.#taken < this.#limits.maxFills)) {
      this.#taken += 1;
      return true;
    }
    const { promise, resolve } = Promise.withResolvers<boolean>();
    this.#queue.push({ who, settle: resolve });
    return await promise;
  }

  /** Gives a place back to whoever has waited longest. */
  giveBack(): void {
    this.#taken -= 1;
    this.#hand();
  }

  /** Does not wait any more. */
  leave(who: unknown): void {
    const index = this.#queue.findIndex((entry) => entry.who === who);
    if (index !== -1) this.#queue.splice(index, 1)[0]?.settle(false);
  }

  /** Nobody waits any more: what is begun from now on ends at once. */
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
