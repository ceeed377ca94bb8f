/** What a share can be cut from: the budget, or a larger share. */
interface Parent {
  readonly limitBytes: number;
  tryAdd(bytes: number): boolean;
  release(bytes: number): void;
}

export interface MemoryShareOptions {
  /** The part of the whole budget that it may have at most. */
  readonly part: number;
  /** It may have so much in any case, if the budget has, in bytes. */
  readonly leastBytes: number;
}

/**
 * A part of a memory budget, for those who must not use up what others need: what goes past it is refused, however much
 * the budget has left.
 */
export class MemoryShare implements Parent {
  readonly #parent: Parent;
  readonly #options: MemoryShareOptions;
  #usedBytes = 0;

  constructor(parent: Parent, options: MemoryShareOptions) {
    this.#parent = parent;
    this.#options = options;
  }

  /** That of the whole budget. */
  get limitBytes(): number {
    return this.#parent.limitBytes;
  }

  /** Counts bytes if there is room for them, in the share and in the budget. @returns whether there was */
  tryAdd(bytes: number): boolean {
    const { part, leastBytes } = this.#options;
    const mostBytes = Math.max(this.limitBytes * part, leastBytes);
    if (this.#usedBytes + bytes > mostBytes || !this.#parent.tryAdd(bytes)) return false;
    this.#usedBytes += bytes;
    return true;
  }

  /** Undoes a {@link tryAdd} that had room. */
  release(bytes: number): void {
    this.#usedBytes -= bytes;
    this.#parent.release(bytes);
  }
}
