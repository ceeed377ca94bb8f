import type { Loan } from '../slabs.ts';

/** More than this is not kept: then it can no longer be told what the client has. */
const maxBytes = 8 * 1024 * 1024;

interface Piece {
  readonly start: number;
  readonly bytes: Buffer;
  /** Keeps the bytes as they are, where they were lent. */
  readonly loan: Loan | undefined;
}

/**
 * What a client of the whole blob has been handed that is not yet in the hashed part of the file. Should the disk fail, those bytes are
 * fetched once more, and what the client has must be the same. Whoever asked for a part, or began in the middle of the blob,
 * has no digest for what it gets, and puts the whole together by itself: of that nothing is kept.
 */
export class UnsettledBytes implements Disposable {
  readonly #isPart: boolean;
  #pieces: Piece[] = [];
  #keptBytes = 0;
  #firstHanded = Number.POSITIVE_INFINITY;
  #isLost = false;

  /** @param options `isPart`: the client has asked for a part of the blob */
  constructor({ isPart }: { readonly isPart: boolean }) {
    this.#isPart = isPart;
  }

  /** @param handed never changed afterwards, or lent. @param written up to where the file is hashed */
  add(start: number, handed: Buffer | Loan, written: number): void {
    if (this.#isPart) return;
    const bytes = Buffer.isBuffer(handed) ? handed : handed.bytes;
    this.#firstHanded = Math.min(this.#firstHanded, start);
    this.#settle(written);
    if (this.#firstHanded > 0 || start + bytes.length <= written || this.#isLost) return;
    this.#pieces.push({ start, bytes, loan: Buffer.isBuffer(handed) ? undefined : handed.again() });
    this.#keptBytes += bytes.length;
    if (this.#keptBytes <= maxBytes) return;
    this.#isLost = true;
    this[Symbol.dispose]();
  }

  /** Whether bytes that have come again agree with what the client was handed of them. */
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

  /** Keeps nothing any more. */
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
