import type { Part } from './arrival.ts';

/** Bytes of what has room reserved, each blob once and no pinned one. Keeps numbers only. */
export class ReservedBytes {
  /** Of what is stored of the images that are admitted. */
  held = 0;
  /** Bytes that have still to come. */
  coming = 0;
  /** Of what lasts as long as an operation. */
  lasting = 0;
  /** Of the images of which something has still to be received. */
  arriving = 0;

  /** Changes a part; what is reserved is counted again. */
  change(part: Part, change: () => void): void {
    this.#count(part, -1);
    change();
    this.#count(part, 1);
  }

  #count({ admitted, lasting, arriving, isPinned, isStored, bytes }: Part, sign: 1 | -1): void {
    if (admitted === 0 || isPinned) return;
    if (lasting > 0) this.lasting += sign * bytes;
    if (arriving > 0) this.arriving += sign * bytes;
    if (isStored) this.held += sign * bytes;
    else this.coming += sign * bytes;
  }
}
