import type { Digest } from '../../oci/digest.ts';
import { easyGuestShare, guestShares } from '../eviction-policy.ts';
import type { Arrivals } from './arrivals.ts';

/** The bytes on disk of blobs that have no room of their own. Nothing is evicted for them. */
export class Guests {
  readonly #arrivals: Arrivals;
  /** Of images that wait for room, whose sizes their manifests tell. */
  readonly #vouched = new Map<Digest, number>();
  readonly #unvouched = new Map<Digest, number>();
  /** Of images that have lost their room among the guests, until their files are closed. */
  readonly #leaving = new Map<Digest, number>();

  constructor(arrivals: Arrivals) {
    this.#arrivals = arrivals;
  }

  closed(digest: Digest): void {
    for (const guests of [this.#vouched, this.#unvouched, this.#leaving]) guests.delete(digest);
  }

  /**
   * Whether the file of a guest may grow to so many bytes.
   * @param room bytes: what is free of the budget, and the budget
   */
  mayGrow(
    digest: Digest,
    bytes: number,
    { freeBytes, budgetBytes }: { freeBytes: number; budgetBytes: number },
  ): boolean {
    this.closed(digest);
    const state = this.#arrivals.stateOf(digest);
    if (state === undefined || state === 'refused') {
      this.#unvouched.set(digest, bytes);
      return sum(this.#unvouched) <= Math.max(freeBytes, budgetBytes * guestShares.unvouched);
    }
    this.#vouched.set(digest, bytes);
    const mayTake = Math.max(freeBytes, budgetBytes * guestShares.vouched);
    if (sum(this.#vouched) > mayTake * easyGuestShare) this.#dropAdmitted();
    if (sum(this.#vouched) > mayTake * easyGuestShare) this.#refuseFirstToEnd(mayTake * easyGuestShare);
    const isTooMuch = sum(this.#vouched) + sum(this.#leaving) > mayTake;
    if (isTooMuch) for (const arrival of this.#arrivals.waitingFor(digest)) this.#arrivals.refuse(arrival);
    return this.#arrivals.stateOf(digest) !== 'refused' && !isTooMuch;
  }

  /** Forgets blobs that have room of their own by now. */
  #dropAdmitted(): void {
    for (const digest of this.#vouched.keys()) {
      if (this.#arrivals.stateOf(digest) === 'admitted') this.#vouched.delete(digest);
    }
  }

  /**
   * Refuses images of which the least is missing, until the others have no more than so many bytes here: they would be
   * received before the others, and evicted first.
   */
  #refuseFirstToEnd(mostBytes: number): void {
    const images = this.#arrivals.refusable().map((arrival) => {
      let [here, missing] = [0, 0];
      for (const part of arrival.parts) {
        const come = this.#vouched.get(part.digest) ?? 0;
        here += come;
        if (!part.isReceived) missing += Math.max(0, part.bytes - come);
      }
      return { arrival, here, missing };
    });
    // For the sake of others only.
    if (images.filter(({ here }) => here > 0).length < 2) return;
    for (const { arrival, here } of images.toSorted((one, other) => one.missing - other.missing)) {
      if (sum(this.#vouched) <= mostBytes) return;
      if (here === 0 && arrival.state !== 'admitted') continue;
      // It may have been decided on with one before it.
      if (arrival.state === 'waiting' || arrival.state === 'admitted') this.#arrivals.refuse(arrival);
      this.#dropAdmitted();
      for (const { digest } of arrival.parts) {
        const bytes = this.#vouched.get(digest);
        if (bytes === undefined || this.#arrivals.stateOf(digest) !== 'refused') continue;
        this.#vouched.delete(digest);
        this.#leaving.set(digest, bytes);
      }
    }
  }
}

function sum(guests: ReadonlyMap<Digest, number>): number {
  return guests.values().reduce((all, one) => all + one, 0);
}
