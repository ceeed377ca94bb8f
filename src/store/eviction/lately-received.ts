import type { Digest } from '../../oci/digest.ts';
import type { Arrival, Part } from './arrival.ts';

/** The blobs that were received last: an image that was received before does not displace it. Keeps numbers only. */
export class LatelyReceived {
  /** Blobs with the place in the order in which their images were received; the last one at the end. */
  readonly #blobs = new Map<Digest, { readonly part: Part; readonly order: number }>();
  #order = 0;

  /** All of an image is here. @returns its place in the order, from 1 */
  add({ parts }: Arrival): number {
    this.#order += 1;
    for (const part of parts) {
      if (part.isPinned) continue;
      this.#blobs.delete(part.digest);
      this.#blobs.set(part.digest, { part, order: this.#order });
    }
    return this.#order;
  }

  /**
   * Bytes of what was received after an image and is no part of it.
   * @param isCounted whether a blob is counted elsewhere
   */
  bytesAfter({ parts, receivedOrder = 0 }: Arrival, isCounted: (part: Part) => boolean): number {
    let bytes = 0;
    const own = new Set([...parts].map(({ digest }) => digest));
    for (const { part, order } of this.#blobs.values()) {
      if (order > receivedOrder && !own.has(part.digest) && !isCounted(part)) bytes += part.bytes;
    }
    return bytes;
  }

  /** Forgets what was received before a place in the order; without one, everything. */
  forgetBefore(order = Number.POSITIVE_INFINITY): void {
    for (const [digest, blob] of this.#blobs) {
      if (blob.order >= order) break;
      this.#blobs.delete(digest);
    }
  }
}
