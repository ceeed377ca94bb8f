import type { MemoryBudget } from './memory-budget.ts';

/** What a client that takes its time keeps from being used again is one or two of these. */
export const slabBytes = 512 * 1024;
/** Slabs kept for the next blob instead of being left to the collector. */
const maxIdle = 32;

/** Bytes that do not change until this is disposed of. Forgetting to dispose costs memory, nothing else. */
export interface Loan extends Disposable {
  readonly bytes: Buffer;
  /** A second loan of the same bytes, disposed of separately. */
  again(): Loan;
}

/** Memory that is filled once from its start to its end, read by many, and reused when no one holds it any more. */
export class Slab {
  readonly #memory: Buffer;
  readonly #onFree: (memory: Buffer) => void;
  /** The writer, and each loan. */
  #holders = 1;
  #length = 0;

  constructor(memory: Buffer, onFree: (memory: Buffer) => void) {
    this.#memory = memory;
    this.#onFree = onFree;
  }

  /** Bytes filled so far. */
  get length(): number {
    return this.#length;
  }

  get isFull(): boolean {
    return this.#length === this.#memory.length;
  }

  /** Takes what there is room for. @returns how many bytes that is */
  fill(chunk: Buffer): number {
    const count = chunk.copy(this.#memory, this.#length);
    this.#length += count;
    return count;
  }

  /** Lends filled bytes. */
  lend(start: number, end: number): Loan {
    if (this.#holders === 0 || end > this.#length) throw new Error('what is lent is not here');
    this.#holders += 1;
    let isHeld = true;
    return {
      bytes: this.#memory.subarray(start, end),
      again: () => {
        if (!isHeld) throw new Error('what has been given back cannot be lent');
        return this.lend(start, end);
      },
      [Symbol.dispose]: () => {
        if (!isHeld) return;
        isHeld = false;
        this.release();
      },
    };
  }

  /** The writer is finished. */
  release(): void {
    this.#holders -= 1;
    if (this.#holders === 0) this.#onFree(this.#memory);
  }
}

/**
 * The memory that blobs pass through. It is used again rather than left to V8's collector, which for each 64 MiB of
 * buffers looks through everything that the program has.
 */
export class Slabs {
  readonly #idle: Buffer[] = [];
  readonly #onFree: ((memory: Buffer) => void) | undefined;
  #budget: MemoryBudget | undefined;

  /** @param options `onFree`: called with memory that no one may read any more */
  constructor({ onFree }: { readonly onFree?: (memory: Buffer) => void } = {}) {
    this.#onFree = onFree;
  }

  /** Counts from now on what is in use. To be called before any is. */
  countIn(budget: MemoryBudget): void {
    this.#budget = budget;
  }

  /** The share of the memory that is in use, as {@link MemoryBudget.pressure} tells; 0 where nothing is counted. */
  get pressure(): number {
    return this.#budget?.pressure ?? 0;
  }

  /** Slabs that wait to be used again. */
  get idle(): number {
    return this.#idle.length;
  }

  /** @param expectedBytes how many are to come; for few of them there is a slab of just that size */
  take(expectedBytes: number): Slab {
    const isSmall = expectedBytes < slabBytes / 2;
    const found = isSmall ? undefined : this.#idle.pop();
    const memory = found ?? Buffer.allocUnsafeSlow(isSmall ? expectedBytes : slabBytes);
    this.#budget?.add(memory.length);
    return new Slab(memory, (free) => this.#free(free));
  }

  #free(memory: Buffer): void {
    this.#onFree?.(memory);
    this.#budget?.release(memory.length);
    if (memory.length === slabBytes && this.#idle.length < maxIdle) this.#idle.push(memory);
    else giveBack(memory);
  }
}

/**
 * How much of its usual memory a fill should take, from 1 down to an eighth: all of it while less than half of the budget
 * is in use.
 */
export function roomFor({ pressure }: Slabs): number {
  return pressure < 1 / 2 ? 1 : Math.max(1 / 8, 2 - 2 * pressure);
}

/** Smaller ones are not worth the trouble. */
const minGivenBack = 4 * 1024;

/**
 * Releases the memory of an exclusively owned chunk at once. A chunk that is a part of a larger buffer is kept: others
 * may hold the rest.
 */
export function giveBack(chunk: Buffer): void {
  const { buffer, byteLength } = chunk;
  if (byteLength < minGivenBack || buffer.byteLength !== byteLength || !(buffer instanceof ArrayBuffer)) return;
  // Moves the memory into an array that is empty, which ends it.
  buffer.transfer(0);
}
