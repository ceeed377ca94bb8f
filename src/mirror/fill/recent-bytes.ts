/**
 * The bytes of a fill that have come last, still in memory: a reader at its head is given them without waiting for the
 * disk, and many readers share one copy.
 */
export class RecentBytes {
  readonly #capacityBytes: number;
  /** By the position of their first byte, oldest first. */
  readonly #chunks = new Map<number, Buffer>();
  #bytes = 0;

  /** @param options.capacityBytes how much is kept; the chunk that came last always is */
  constructor({ capacityBytes }: { capacityBytes: number }) {
    this.#capacityBytes = capacityBytes;
  }

  /** Takes a chunk; the caller never changes its content again. */
  add(position: number, chunk: Buffer): void {
    this.#chunks.set(position, chunk);
    this.#bytes += chunk.length;
    for (const [oldest, { length }] of this.#chunks) {
      if (this.#bytes <= this.#capacityBytes || oldest === position) break;
      this.#chunks.delete(oldest);
      this.#bytes -= length;
    }
  }

  /** What is here from a position on, up to the end of one chunk. */
  at(position: number): Buffer | undefined {
    // Readers go from one chunk to the next.
    const chunk = this.#chunks.get(position);
    if (chunk) return chunk;
    for (const [start, other] of this.#chunks) {
      if (start < position && position < start + other.length) return other.subarray(position - start);
    }
    return undefined;
  }

  clear(): void {
    this.#chunks.clear();
    this.#bytes = 0;
  }
}
