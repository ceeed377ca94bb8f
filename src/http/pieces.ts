import type { Ticket } from './admission.ts';

/** Pieces of each size that are kept for the next transfer instead of being given back. */
const maxIdle = 32;
/** Sizes are powers of two from this one on. */
const leastBytes = 16 * 1024;
/** From this size on bytes that are in memory are sent from where they are, which holds up to so much of them. */
const largeBytes = 512 * 1024;

/** Memory that one transfer reads into and writes from. Disposing gives it to the next transfer. */
export interface Piece extends Disposable {
  readonly length: number;
  /** Whether the transfer may hold bytes of others while its client takes them. */
  readonly isLarge: boolean;
  /** Whether a socket may still read from it: such a piece is not used again. */
  isLent: boolean;
  /** A buffer for a number of bytes, or the whole buffer. */
  upTo(bytes: number): Buffer;
}

/** Keeps the memory that transfers read into: to allocate half a mebibyte for each answer costs more than to keep some. */
export class Pieces {
  readonly #idle = new Map<number, Buffer[]>();

  /**
   * A piece for so many bytes, or of the size that the ticket finds right where they are more.
   * @returns `undefined` where the ticket has no room for it
   */
  take(ticket: Ticket, wantedBytes: number): Piece | undefined {
    const bytes = Math.min(
      ticket.pieceBytes,
      Math.max(leastBytes, 2 ** Math.ceil(Math.log2(Math.max(1, wantedBytes)))),
    );
    if (!ticket.take(bytes)) return undefined;
    let idle = this.#idle.get(bytes);
    if (idle === undefined) this.#idle.set(bytes, (idle = []));
    const memory = idle.pop() ?? Buffer.allocUnsafeSlow(bytes);
    const kept = idle;
    return {
      length: bytes,
      isLarge: bytes >= largeBytes,
      isLent: false,
      upTo: (wanted) => (wanted < bytes ? memory.subarray(0, wanted) : memory),
      [Symbol.dispose]() {
        if (!this.isLent && kept.length < maxIdle) kept.push(memory);
      },
    };
  }
}
