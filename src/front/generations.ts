import type { Changes } from '../oci/facts.ts';

/** Two facts that share a counter only drop more answers than they have to. A power of two. */
const counters = 65_536;
/** The counter that every answer rests on. */
const everything = 0;

/** The counters that an answer rests on and their values: index, value, index, value. */
export type Stamp = readonly number[];

/**
 * Says across threads whether the facts under an answer have changed. Each fact has a counter in shared memory, counted
 * up in the same turn of the event loop in which the fact changes. An answer is kept together with the counts of its
 * facts, and is given only as long as they are the same.
 */
export class Generations implements Changes {
  /** For other threads: {@link Generations} over it reads the same counters. */
  readonly buffer: SharedArrayBuffer;
  readonly #counts: Int32Array;

  constructor(buffer: SharedArrayBuffer = new SharedArrayBuffer(counters * Int32Array.BYTES_PER_ELEMENT)) {
    this.buffer = buffer;
    this.#counts = new Int32Array(buffer);
  }

  changed(fact: string): void {
    Atomics.add(this.#counts, counterOf(fact), 1);
  }

  changedAll(): void {
    Atomics.add(this.#counts, everything, 1);
  }

  count(fact: string): number {
    return Atomics.load(this.#counts, everything) + Atomics.load(this.#counts, counterOf(fact));
  }

  /** The counts of facts now. */
  stamp(facts: readonly string[]): Stamp {
    const indices = [everything, ...facts.map(counterOf)];
    return indices.flatMap((index) => [index, Atomics.load(this.#counts, index)]);
  }

  /** Whether none of the facts has changed since. */
  isCurrent(stamp: Stamp): boolean {
    for (let at = 0; at < stamp.length; at += 2) {
      if (Atomics.load(this.#counts, stamp[at]!) !== stamp[at + 1]) return false;
    }
    return true;
  }
}

/** 1 to `counters - 1`, by FNV-1a. */
function counterOf(fact: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < fact.length; at += 1) hash = Math.imul(hash ^ fact.charCodeAt(at), 0x01000193);
  return 1 + ((hash >>> 0) % (counters - 1));
}
