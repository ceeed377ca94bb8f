import type { Loan } from '../../memory/slabs.ts';

/** Maximum bytes kept; beyond, the bytes that the client has can no longer be compared. */
const maxBytes = 8 * 1024 * 1024;

interface Piece {
  readonly start: number;
  readonly bytes: Buffer;
  /** Keeps borrowed bytes as they are. */
  readonly loan: Loan | undefined;
}

/**
 * What a client of the whole blob has received that is not yet in the hashed part of the file. If the disk fails, those
 * bytes are fetched again, and must be what the client has. A client that requested a part, or began in the middle of the
 * blob, has no digest for what it gets and assembles the whole itself: nothing is kept for it.
 */
export class UnsettledBytes implements Disposable {
  readonly #isPart: boolean;
  #pieces: Piece[] = [];
  #keptBytes = 0;
  #firstHanded = Number.POSITIVE_INFINITY;
  #isLost = false;

  /** @param options `isPart`: the client has requested a part of the blob */
  constructor({ isPart }: { readonly isPart: boolean }) {
    this.#isPart = isPart;
  }

  /** @param handed borrowed, or never changed afterwards. @param written the end of the hashed part of the file */
  add(start: number, handed: Buffer | Loan, written: number): void {
    if (this.#isPart) return;
    const bytes = Buffer.isBuffer(handed) ? handed : handed.bytes;
    this.#firstHanded = Math.min(this.#firstHanded, start);
    if (this.#firstHanded > 0 || this.#isLost) return;
    this.#pieces.push({ start, bytes, loan: Buffer.isBuffer(handed) ? undefined : handed.again() });
    this.#keptBytes += bytes.length;
    this.#settle(written);
    if (this.#keptBytes <= maxBytes) return;
    this.#isLost = true;
    this[Symbol.dispose]();
  }

  /** Whether bytes that have arrived again match what the client received of them. */
  agrees(start: number, bytes: Buffer): boolean {
    if (this.#isPart || this.#firstHanded > 0) return true;
    let position = start;
    const end = start + bytes.length;
    while (position < end) {
      const piece = this.#pieces.find((kept) => kept.start <= position && position < kept.start + kept.bytes.length);
      if (piece === undefined) return false;
      const until = Math.min(end, piece.start + piece.bytes.length);
      const handed = piece.bytes.subarray(position - piece.start, until - piece.start);
      if (!handed.equals(bytes.subarray(position - start, until - start))) return false;
      position = until;
    }
    return true;
  }

  /** Releases what is kept and keeps nothing from now on. */
  [Symbol.dispose](): void {
    for (const { loan } of this.#pieces) loan?.[Symbol.dispose]();
    this.#pieces = [];
    this.#keptBytes = 0;
  }

  #settle(written: number): void {
    while (this.#pieces.length > 0) {
      const [{ start, bytes, loan }] = this.#pieces as [Piece];
      if (start + bytes.length > written) break;
      this.#pieces.shift();
      this.#keptBytes -= bytes.length;
      loan?.[Symbol.dispose]();
    }
  }
}
