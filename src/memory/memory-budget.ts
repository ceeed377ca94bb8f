/** Bytes of memory that may be taken; read each time, since the configuration can be replaced while the mirror runs. */
export interface MemoryLimit {
  readonly memoryBytes: number;
}

/**
 * Counts the memory that answers and blobs on their way take in this process, against one limit. What a client waits for
 * is refused past the limit; what has already come from a source is only counted, and its owner keeps less of it as the
 * pressure grows.
 */
export class MemoryBudget {
  readonly #limit: MemoryLimit;
  #usedBytes = 0;
  #peakBytes = 0;

  constructor(limit: MemoryLimit) {
    this.#limit = limit;
  }

  get usedBytes(): number {
    return this.#usedBytes;
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
    return this.#usedBytes / this.#limit.memoryBytes;
  }

  /** Counts bytes that are here in any case. */
  add(bytes: number): void {
    this.#usedBytes += bytes;
    if (this.#usedBytes > this.#peakBytes) this.#peakBytes = this.#usedBytes;
  }

  /** Counts bytes if there is room for them. @returns whether there was */
  tryAdd(bytes: number): boolean {
    if (this.#usedBytes + bytes > this.#limit.memoryBytes) return false;
    this.add(bytes);
    return true;
  }

  /** Undoes an {@link add}. */
  release(bytes: number): void {
    this.#usedBytes -= bytes;
  }
}
