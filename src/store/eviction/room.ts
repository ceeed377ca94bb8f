import { setTimeout as delay } from 'node:timers/promises';
import type { Digest } from '../../oci/digest.ts';
import type { Catalog } from '../catalog/catalog.ts';
import { marksOf } from '../eviction-policy.ts';
import type { Claim, Space } from '../files/blob-store.ts';
import type { ArrivingPart } from './arrival.ts';
import { Arrivals } from './arrivals.ts';
import { Guests } from './guests.ts';

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
  /** The same soon, without a wait. */
  readonly look: () => void;
}

/**
 * Gives out the room that there is: to images that are on their way, each whole, in the order in which they ask for it. What
 * cannot have room passes through: its clients get it, nothing is kept, and nothing is evicted for it.
 */
export class Room implements Space {
  readonly arrivals: Arrivals;
  readonly #options: RoomOptions;
  /** The last of the claims that wait, one after the other, until enough has been evicted. */
  #claims: Promise<void> = Promise.resolve();
  /** Settles when something has been evicted. */
  #freed = Promise.withResolvers<void>();
  /** Blobs that may become visible, with those of their bytes that are not counted among what is stored. */
  readonly #claimed = new Map<Digest, number>();
  #claimedBytes = 0;
  /** Those of them that have become visible in this turn, and may be counted by now. */
  readonly #ending = new Map<Digest, number>();
  /** Of the blob whose turn it is to wait. */
  #wantedBytes = 0;
  readonly #guests: Guests;
  #free = { bytes: 0, atMs: Number.NEGATIVE_INFINITY };

  constructor(options: RoomOptions) {
    this.#options = options;
    const { catalog, isInUse } = options;
    this.arrivals = new Arrivals({
      images: catalog.images,
      limitBytes: () => this.#limitBytes(),
      isInUse,
      onArrived: (digests, receivedAgoMs) => catalog.uses.lasted(digests, receivedAgoMs),
    });
    this.#guests = new Guests(this.arrivals);
  }

  /** Bytes that are about to be counted among what is stored. */
  get claimedBytes(): number {
    return this.#uncountedBytes() + this.#wantedBytes;
  }

  begun(digest: Digest): void {
    this.arrivals.begun(digest);
  }

  closed(digest: Digest): void {
    this.#guests.closed(digest);
    this.look();
  }

  look(): void {
    this.#options.look();
  }

  /** Something has been evicted. */
  freed(): void {
    this.#freed.resolve();
    this.#freed = Promise.withResolvers();
  }

  mayGrow(digest: Digest, bytes: number): boolean {
    const { budget, offline } = this.#options;
    const state = this.arrivals.stateOf(digest);
    if (state === 'admitted' || offline) return true;
    return this.#guests.mayGrow(digest, bytes, { freeBytes: this.#freeBytes(), budgetBytes: budget.maxSizeBytes });
  }

  async claim(digest: Digest, bytes: number): Promise<Claim> {
    this.arrivals.received(digest);
    // The bytes of a blob that no manifest names tell its size, now that they are verified.
    const alone =
      this.arrivals.stateOf(digest) === undefined
        ? this.arrivals.reserve([{ digest, bytes, isStored: false }])
        : undefined;
    if (!(await this.#isAdmitted(digest))) {
      if (alone) this.arrivals.end(alone);
      return refused;
    }
    // One after the other: what is granted to the one is not there for the next, and none is overtaken for long.
    const turn = this.#claims.then(() => this.#wait(bytes));
    this.#claims = turn;
    await turn;
    // Its image may have lost its room to one that was received after it.
    if (alone === undefined && this.arrivals.stateOf(digest) === 'refused') return refused;
    const isCounted = this.#claimed.has(digest) || this.#options.catalog.blobs.has(digest);
    const uncounted = isCounted ? 0 : bytes;
    this.#claimed.set(digest, uncounted);
    this.#claimedBytes += uncounted;
    return {
      isGranted: true,
      end: (isStored) => {
        if (isStored) this.arrivals.stored(digest, bytes);
        this.#claimed.delete(digest);
        this.#claimedBytes -= uncounted;
        this.#ending.set(digest, uncounted);
        // Its row is written by the end of this turn.
        setImmediate(() => {
          this.#ending.delete(digest);
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
    // Made only for a wait: it stays in memory until its time is over.
    let timeout: AbortSignal | undefined;
    while (this.arrivals.stateOf(digest) === 'waiting' && timeout?.aborted !== true) {
      timeout ??= AbortSignal.timeout(maxWaitMs);
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
    let bytes = this.#claimedBytes;
    for (const [digest, uncounted] of this.#ending) if (uncounted > 0 && !blobs.has(digest)) bytes += uncounted;
    return bytes;
  }

  async #wait(bytes: number): Promise<void> {
    if (this.#fits(bytes)) return;
    this.#wantedBytes = bytes;
    const made = new AbortController();
    void this.#options.makeRoom().then(() => made.abort());
    const signal = AbortSignal.any([AbortSignal.timeout(maxWaitMs), made.signal]);
    try {
      // A pass lasts as long as others ask for room, too.
      while (!signal.aborted && !this.#fits(bytes)) await this.#untilDecided([this.#freed.promise], signal);
    } finally {
      this.#wantedBytes = 0;
    }
  }

  /** The limit of all reservations together. */
  #limitBytes(): number {
    const { catalog, budget, offline } = this.#options;
    if (offline) return Number.POSITIVE_INFINITY;
    return marksOf(budget.maxSizeBytes).high - catalog.blobs.usage().pinnedBytes;
  }

  /** The free part of the budget that is not reserved. */
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
