import { type Loan, roomFor, type Slab, type Slabs } from './slabs.ts';

/** The most bytes that readers at the head of a fill share in memory: the latest ones. */
const mostBytes = 4 * 1024 * 1024;

interface Stretch {
  readonly slab: Slab;
  /** Where in the blob the slab's first byte belongs. */
  readonly origin: number;
  readonly start: number;
  end: number;
  /** Keeps the slab from being used again. */
  readonly hold: Loan;
}

/**
 * The bytes of a fill that have come last, still in memory: a reader at its head is given them without waiting for the
 * disk, and many readers share one copy.
 */
export class RecentBytes implements Disposable {
  readonly #slabs: Slabs;
  /** Oldest first; one for each slab. */
  readonly #stretches = new Map<Slab, Stretch>();
  #bytes = 0;

  /** @param slabs where the bytes come from: less is kept while there is little memory; the slab being filled always is */
  constructor(slabs: Slabs) {
    this.#slabs = slabs;
  }

  /** How many bytes are kept now. */
  get capacityBytes(): number {
    return mostBytes * roomFor(this.#slabs);
  }

  /** Takes bytes of a slab that follow those taken of it before. @param position where in the blob they belong */
  add(
    position: number,
    { slab, start, end }: { readonly slab: Slab; readonly start: number; readonly end: number },
  ): void {
    const last = this.#stretches.get(slab);
    this.#bytes += end - start;
    if (last) last.end = position + end - start;
    else {
      const hold = slab.lend(start, start);
      this.#stretches.set(slab, { slab, origin: position - start, start: position, end: position + end - start, hold });
    }
    const { capacityBytes } = this;
    for (const oldest of this.#stretches.values()) {
      if (this.#bytes <= capacityBytes || oldest.slab === slab) break;
      this.#drop(oldest);
    }
  }

  /**
   * What is here from a position on, up to the end of one slab.
   * @param limit the released part of the bytes up to a position
   */
  at(position: number, limit: (end: number) => number = (end) => end): Loan | undefined {
    for (const { slab, origin, start, end } of this.#stretches.values()) {
      if (position < start || position >= end) continue;
      const until = limit(end);
      return until > position ? slab.lend(position - origin, until - origin) : undefined;
    }
    return undefined;
  }

  [Symbol.dispose](): void {
    for (const stretch of this.#stretches.values()) this.#drop(stretch);
  }

  #drop(stretch: Stretch): void {
    this.#stretches.delete(stretch.slab);
    this.#bytes -= stretch.end - stretch.start;
    stretch.hold[Symbol.dispose]();
  }
}
