import type { Descriptor } from '../../../oci/descriptor.ts';
import type { Digest } from '../../../oci/digest.ts';

/** How many bytes of a blob have arrived, and its size; 0 if that is not known yet. */
export interface BlobAmount {
  readonly doneBytes: number;
  readonly totalBytes: number;
}

/** The progress of blobs, each counted once, with their sums. */
export class BlobAmounts {
  readonly #amounts = new Map<Digest, { doneBytes: number; totalBytes: number }>();
  #doneBytes = 0;
  #totalBytes = 0;

  get doneBytes(): number {
    return this.#doneBytes;
  }

  get totalBytes(): number {
    return this.#totalBytes;
  }

  /** The progress of one blob, starting with the size in its manifest. */
  of({ digest, size }: Descriptor): BlobAmount {
    const known = this.#amounts.get(digest);
    if (known) return known;
    const amount = { doneBytes: 0, totalBytes: Math.max(0, size) };
    this.#amounts.set(digest, amount);
    this.#totalBytes += amount.totalBytes;
    return amount;
  }

  /** Updates an amount that {@link of} has returned. */
  set(amount: BlobAmount, { doneBytes, totalBytes }: BlobAmount): void {
    this.#doneBytes += doneBytes - amount.doneBytes;
    this.#totalBytes += totalBytes - amount.totalBytes;
    Object.assign(amount, { doneBytes, totalBytes });
  }
}

/** Sum of sizes; one that is unknown counts as 0. */
export function bytesOf(blobs: readonly Descriptor[]): number {
  return blobs.reduce((sum, { size }) => sum + Math.max(0, size), 0);
}
