/** Bytes of memory that may be taken; read each time, since the configuration can be replaced while the mirror runs. */
export interface MemoryLimit {
  readonly memoryBytes: number;
}

/** Other threads that share the limit. */
export interface OtherMemory {
  /** Memory of the other threads, in bytes. */
  readonly otherMemoryBytes: number;
  /** Tells them how much is used here. */
  reportMemory(bytes: number): void;
}

/**
 * Counts the memory that answers and blobs on their way take in this thread, against one limit. What a client waits for
 * is refused past the limit; what has already come from a source is only counted, and its owner keeps less of it as the
 * pressure grows.
 */
export class MemoryBudget {
  readonly #limit: MemoryLimit;
  readonly #others: OtherMemory | undefined;
  #usedBytes = 0;
  #peakBytes = 0;

  /** @param others absent: the limit is for this thread alone */
  constructor(limit: MemoryLimit, others?: OtherMemory) {
    this.#limit = limit;
    this.#others = others;
  }

  /** By all threads that share the limit. */
  get usedBytes(): number {
    return this.#usedBytes + (this.#others?.otherMemoryBytes ?? 0);
  }

  /** The most that has been used at one time so far. */
  get peakBytes(): number {
    return this.#peakBytes;
  }

  get limitBytes(): number {
    return this.#limit.memoryBytes;
  }

  /** The share of the limit that is in use: above 1, the limit is exceeded. */
  get pressure(): number {
    return this.usedBytes / this.#limit.memoryBytes;
  }

  /** Counts bytes that are here in any case. */
  add(bytes: number): void {
    this.#usedBytes += bytes;
    this.#others?.reportMemory(this.#usedBytes);
    const used = this.usedBytes;
    if (used > this.#peakBytes) this.#peakBytes = used;
  }

  /** Counts bytes if there is room for them. @returns whether there was */
  tryAdd(bytes: number): boolean {
    if (this.usedBytes + bytes > this.#limit.memoryBytes) return false;
    this.add(bytes);
    return true;
  }

  /** Undoes an {@link add}. */
  release(bytes: number): void {
    this.#usedBytes -= bytes;
    this.#others?.reportMemory(this.#usedBytes);
  }
}
