import { setTimeout as delay } from 'node:timers/promises';
import type { Digest } from '../../oci/digest.ts';
import type { Catalog } from '../catalog/catalog.ts';
import { guestShares, marksOf } from '../eviction-policy.ts';
import type { Claim, Space } from '../files/blob-store.ts';
import type { ArrivingPart } from './arrival.ts';
import { Arrivals } from './arrivals.ts';

/** A blob that is to become visible waits no longer than this for its place; only the file that becomes it waits with it. */
const maxWaitMs = 30_000;
/** How often it is looked how much of the budget is free, while files grow. */
const lookEveryMs = 100;

const refused: Claim = { isGranted: false, end: () => undefined };

export interface RoomOptions {
  readonly catalog: Catalog;
  /** Read each time, as it may be changed while the mirror runs. Bytes. */
  readonly budget: { readonly maxSizeBytes: number };
  /** Nothing can be fetched again: nothing is evicted, and all that is imported stays. */
  readonly offline: boolean;
  /** Whether a blob is being read or brought here. */
  readonly isInUse: (digest: Digest) => boolean;
  /** Evicts until the cache is within its budget. Never rejects. */
  readonly makeRoom: () => Promise<void>;
  /** As that, soon, for those who do not wait. */
  readonly look: () => void;
}

/**
 * Gives out the room that there is: to images that are on their way, each whole, in the order in which they ask for it. What
 * cannot have room passes through: its clients get it, nothing is kept, and nothing is evicted for it.
 */
export class Room implements Space {
  readonly arrivals: Arrivals;
  readonly #options: RoomOptions;
  /** The last of those who wait until enough has been evicted, one after the other. */
  #claims: Promise<void> = Promise.resolve();
  /** Blobs that may become visible, with their bytes. */
  readonly #claimed = new Map<Digest, number>();
  /** Of the blob whose turn it is to wait. */
  #wantedBytes = 0;
  /** What is on disk of blobs that have no room of their own, by digest: those whose size a manifest tells, and others. */
  readonly #guests = { vouched: new Map<Digest, number>(), unvouched: new Map<Digest, number>() };
  #free = { bytes: 0, atMs: Number.NEGATIVE_INFINITY };

  constructor(options: RoomOptions) {
    this.#options = options;
    const { catalog, isInUse } = options;
    this.arrivals = new Arrivals({ images: catalog.images, limitBytes: () => this.#limitBytes(), isInUse });
  }

  /** Bytes that are about to be counted among what is stored. */
  get claimedBytes(): number {
    return this.#uncountedBytes() + this.#wantedBytes;
  }

  begun(digest: Digest): void {
    this.arrivals.begun(digest);
  }

  closed(digest: Digest): void {
    for (const guests of Object.values(this.#guests)) guests.delete(digest);
    this.look();
  }

  look(): void {
    this.#options.look();
  }

  mayGrow(digest: Digest, bytes: number): boolean {
    const { budget, offline } = this.#options;
    const state = this.arrivals.stateOf(digest);
    if (state === 'admitted' || offline) return true;
    const kind = state === undefined || state === 'refused' ? 'unvouched' : 'vouched';
    const guests = this.#guests[kind];
    guests.set(digest, bytes);
    const all = guests.values().reduce((sum, one) => sum + one, 0);
    const mayTake = Math.max(this.#freeBytes(), budget.maxSizeBytes * guestShares[kind]);
    if (all <= mayTake) return true;
    for (const arrival of this.arrivals.waitingFor(digest)) this.arrivals.refuse(arrival);
    return false;
  }

  async claim(digest: Digest, bytes: number): Promise<Claim> {
    // What no manifest names is known by its bytes, now that they are right.
    const alone =
      this.arrivals.stateOf(digest) === undefined
        ? this.arrivals.reserve([{ digest, bytes, isStored: false }])
        : undefined;
    if (!(await this.#isAdmitted(digest))) {
      if (alone) this.arrivals.end(alone);
      return refused;
    }
    if (!this.#fits(bytes)) {
      // One after the other: what is granted to the one is not there for the next.
      const turn = this.#claims.then(() => this.#wait(bytes));
      this.#claims = turn;
      await turn;
    }
    this.#claimed.set(digest, bytes);
    return {
      isGranted: true,
      end: (isStored) => {
        if (isStored) this.arrivals.stored(digest, bytes);
        // Its row is written by the end of this turn.
        setImmediate(() => {
          this.#claimed.delete(digest);
          if (alone) this.arrivals.end(alone);
        });
      },
    };
  }

  /**
   * Reserves room for what an operation works on, and keeps it from being evicted until it is disposed.
   * @returns `undefined` where there is no room for all of it beside what else is reserved or pinned
   * @throws the signal's reason
   */
  async reserve(parts: Iterable<ArrivingPart>, signal: AbortSignal): Promise<Disposable | undefined> {
    const arrival = this.arrivals.reserve(parts, { isLasting: true });
    try {
      await this.#untilDecided([arrival.decided.promise], signal);
      signal.throwIfAborted();
    } catch (error) {
      this.arrivals.end(arrival);
      throw error;
    }
    if (arrival.state !== 'admitted') {
      this.arrivals.end(arrival);
      return undefined;
    }
    return {
      [Symbol.dispose]: () => {
        this.arrivals.end(arrival);
        this.look();
      },
    };
  }

  /** Waits until the image of a blob has its room, or is refused it. */
  async #isAdmitted(digest: Digest): Promise<boolean> {
    const timeout = AbortSignal.timeout(maxWaitMs);
    while (this.arrivals.stateOf(digest) === 'waiting' && !timeout.aborted) {
      const decided = this.arrivals.waitingFor(digest).map((arrival) => arrival.decided.promise);
      await this.#untilDecided(decided, timeout);
    }
    for (const arrival of this.arrivals.waitingFor(digest)) this.arrivals.refuse(arrival);
    const state = this.arrivals.stateOf(digest);
    return state === 'admitted' || state === undefined;
  }

  /** Waits for the first of several decisions, as long as {@link maxWaitMs} or the signal allow. Never rejects. */
  async #untilDecided(decisions: readonly Promise<void>[], signal: AbortSignal): Promise<void> {
    const waited = new AbortController();
    const timeout = delay(maxWaitMs, undefined, { signal: AbortSignal.any([waited.signal, signal]), ref: false });
    await Promise.race([...decisions, timeout.catch(() => undefined)]);
    waited.abort();
  }

  #fits(bytes: number): boolean {
    const { catalog, budget } = this.#options;
    return catalog.blobs.usage().bytes + this.#uncountedBytes() + bytes <= marksOf(budget.maxSizeBytes).high;
  }

  /** Of what may become visible, that which has no row yet. */
  #uncountedBytes(): number {
    const { blobs } = this.#options.catalog;
    return this.#claimed.entries().reduce((sum, [digest, bytes]) => sum + (blobs.has(digest) ? 0 : bytes), 0);
  }

  async #wait(bytes: number): Promise<void> {
    if (this.#fits(bytes)) return;
    this.#wantedBytes = bytes;
    try {
      await this.#untilDecided([this.#options.makeRoom()], new AbortController().signal);
    } finally {
      this.#wantedBytes = 0;
    }
  }

  /** What all that is reserved may take together. */
  #limitBytes(): number {
    const { catalog, budget, offline } = this.#options;
    if (offline) return Number.POSITIVE_INFINITY;
    return marksOf(budget.maxSizeBytes).high - catalog.blobs.usage().pinnedBytes;
  }

  /** What is free of the budget and not reserved. */
  #freeBytes(): number {
    const nowMs = performance.now();
    if (nowMs - this.#free.atMs >= lookEveryMs) {
      const { catalog, budget } = this.#options;
      const high = marksOf(budget.maxSizeBytes).high;
      this.#free = { bytes: high - catalog.blobs.usage().bytes - this.arrivals.comingBytes, atMs: nowMs };
    }
    return this.#free.bytes;
  }
}
