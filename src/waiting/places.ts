import { Tally } from './tally.ts';

/** A claimant of a place: places of one group are kept apart from those of the others. */
export interface Claimant {
  readonly group: string;
}

/** The part of all places that each group may have in any case, whatever the others have taken. */
const guaranteedShare = 1 / 4;

/** Places that may be given beyond the limit in any case; with a higher limit, as many again as it allows. */
const minBeyond = 64;

/**
 * A limited number of places, given in the order in which they were asked for. A group that has fewer than a quarter of
 * them gets one even when all are taken: what one group holds up never holds up another.
 */
export class Places {
  readonly #limits: { readonly maxFills: number };
  readonly #queue: { readonly who: Claimant; readonly settle: (isGiven: boolean) => void }[] = [];
  readonly #taken = new Tally();
  #total = 0;
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
  isWaiting(who: Claimant): boolean {
    return this.#queue.some((entry) => entry.who === who);
  }

  /** Takes a place as soon as there is one. @returns false where {@link leave} was called for it first */
  async take(who: Claimant): Promise<boolean> {
    if (!this.#queue.some((entry) => entry.who.group === who.group) && this.#hasPlace(who)) {
      this.#count(who, 1);
      return true;
    }
    const { promise, resolve } = Promise.withResolvers<boolean>();
    this.#queue.push({ who, settle: resolve });
    return await promise;
  }

  /**
   * Gives `who` a place although none is free, because it has waited as long as it may. A bounded number is given so.
   * @returns false if it does not wait, or too many have been given
   */
  giveAnyway(who: Claimant): boolean {
    const { maxFills } = this.#limits;
    const index = this.#queue.findIndex((entry) => entry.who === who);
    if (index === -1 || this.#total >= maxFills + Math.max(maxFills, minBeyond)) return false;
    this.#count(who, 1);
    this.#queue.splice(index, 1)[0]?.settle(true);
    return true;
  }

  /** Gives a place back; the caller that has waited longest of those that may have it gets it. */
  giveBack(who: Claimant): void {
    this.#count(who, -1);
    this.#hand();
  }

  /** Stops waiting for a place. */
  leave(who: Claimant): void {
    const index = this.#queue.findIndex((entry) => entry.who === who);
    if (index !== -1) this.#queue.splice(index, 1)[0]?.settle(false);
  }

  /** Gives a place to every waiting caller, now and from now on: what they start then ends at once. */
  close(): void {
    this.#isClosed = true;
    this.#hand();
  }

  #hasPlace({ group }: Claimant): boolean {
    const { maxFills } = this.#limits;
    const guaranteed = Math.max(1, Math.floor(maxFills * guaranteedShare));
    return this.#isClosed || this.#total < maxFills || this.#taken.get(group) < guaranteed;
  }

  #count({ group }: Claimant, change: 1 | -1): void {
    this.#total += change;
    this.#taken.add(group, change);
  }

  #hand(): void {
    for (let index = 0; index < this.#queue.length; ) {
      const entry = this.#queue[index]!;
      if (!this.#hasPlace(entry.who)) {
        index += 1;
        continue;
      }
      this.#queue.splice(index, 1);
      this.#count(entry.who, 1);
      entry.settle(true);
    }
  }
}
