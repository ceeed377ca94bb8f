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

  /** What can still be filled. */
  get room(): Buffer {
    return this.#memory.subarray(this.#length);
  }

  /** Takes what there is room for. @returns how many bytes that is */
  fill(chunk: Buffer): number {
    const count = chunk.copy(this.#memory, this.#length);
    this.#length += count;
    return count;
  }

  /** Bytes have been written to the beginning of {@link room}. */
  grow(bytes: number): void {
    if (bytes > this.#memory.length - this.#length) throw new Error('there is no room for so many bytes');
    this.#length += bytes;
  }

  /** Filled bytes, for as long as the writer has not released them; see {@link lend}. */
  view(start: number, end: number): Buffer {
    return this.#memory.subarray(start, Math.min(end, this.#length));
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

/** Filled bytes of a slab. */
export interface SlabPart {
  readonly slab: Slab;
  readonly start: number;
  readonly end: number;
}

/**
 * The memory that blobs pass through. It is used again rather than left to V8's collector, which for each 64 MiB of
 * buffers looks through everything that the program has.
 */
export class Slabs {
  readonly #idle: Buffer[] = [];
  /**
   * Slabs whose memory other threads can be shown: as many as are kept, because V8 does not count such memory when it
   * decides to collect.
   */
  #shared = 0;
  readonly #forgotten = new FinalizationRegistry(() => (this.#shared -= 1));
  readonly #inUse = new WeakMap<ArrayBufferLike, Slab>();
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
    const memory = isSmall ? Buffer.allocUnsafeSlow(expectedBytes) : (this.#idle.pop() ?? this.#large());
    this.#budget?.add(memory.length);
    const slab = new Slab(memory, (free) => this.#free(free));
    this.#inUse.set(memory.buffer, slab);
    return slab;
  }

  /** Where a chunk lies, if it is part of a slab that is in use. */
  partOf({ buffer, byteOffset, length }: Buffer): SlabPart | undefined {
    const slab = this.#inUse.get(buffer);
    return slab && { slab, start: byteOffset, end: byteOffset + length };
  }

  #large(): Buffer {
    if (this.#shared === maxIdle) return Buffer.allocUnsafeSlow(slabBytes);
    this.#shared += 1;
    const memory = new SharedArrayBuffer(slabBytes);
    this.#forgotten.register(memory, undefined);
    return Buffer.from(memory);
  }

  #free(memory: Buffer): void {
    this.#inUse.delete(memory.buffer);
    this.#onFree?.(memory);
    this.#budget?.release(memory.length);
    const isKept = memory.buffer instanceof SharedArrayBuffer || this.#idle.length < maxIdle;
    if (memory.length === slabBytes && isKept) this.#idle.push(memory);
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
