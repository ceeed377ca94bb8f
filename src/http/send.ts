import type { ServerResponse } from 'node:http';
import type { BlobBody } from '../mirror/body.ts';
import type { Loan } from '../mirror/slabs.ts';
import { RegistryError } from '../oci/error.ts';
import { ClientGone, type Exchange } from './exchange.ts';

/** Read and written at a time: half of it costs half as much again per byte, twice of it gains nothing more. */
const pieceBytes = 512 * 1024;
/** Up to here copying a body behind its headers costs less than sending two pieces. */
const singleWriteBytes = 16 * 1024;
/** Pieces kept for the next transfer instead of being given back. */
const maxIdlePieces = 32;

/** An answer of the registry API. */
export interface Reply {
  readonly status: number;
  /** Name, value, name, value: the form that costs Node least. */
  readonly headers: string[];
  readonly content: Content;
}

export type Content =
  | { readonly kind: 'none' }
  | { readonly kind: 'bytes'; readonly bytes: Buffer }
  /** Bytes `start` to `end` (exclusive) of a body; to its end where that is not known. */
  | {
      readonly kind: 'body';
      readonly body: BlobBody;
      readonly start: number;
      readonly end: number | undefined;
      readonly early: boolean;
    };

/** Sends answers; keeps the memory that transfers read into. */
export class Sender {
  readonly #idle: Buffer[] = [];
  readonly #options: { readonly clientIdleMs: number };

  /** @param options `clientIdleMs`: a client that takes nothing of what waits for it is cut after this; read each time */
  constructor(options: { readonly clientIdleMs: number }) {
    this.#options = options;
  }

  /**
   * Sends an answer at the client's pace.
   * @throws what the body throws, when headers are out: the connection has been cut then, short of `Content-Length`
   */
  async send(response: ServerResponse, { status, headers, content }: Reply, exchange: Exchange): Promise<void> {
    if (response.destroyed) return;
    response.writeHead(status, headers);
    if (content.kind === 'none') {
      response.end();
      return;
    }
    if (content.kind === 'bytes') {
      exchange.sentBytes = content.bytes.length;
      // A string of single-byte characters leaves together with the headers, as one piece of memory.
      if (content.bytes.length <= singleWriteBytes) response.end(content.bytes.toString('latin1'), 'latin1');
      else {
        response.end(content.bytes);
        this.#cutIdle(response, exchange);
      }
      return;
    }
    // Somebody may wait for the headers while the first bytes are still on their way.
    if (content.early) response.flushHeaders();
    this.#cutIdle(response, exchange);
    try {
      await this.#stream(response, content, exchange);
      response.end();
    } catch (error) {
      response.destroy();
      throw error;
    }
  }

  /** Cuts the connection once the client has taken nothing for too long; a wait for the upstream is not its fault. */
  #cutIdle(response: ServerResponse, exchange: Exchange): void {
    const { clientIdleMs } = this.#options;
    // Every write, and every byte that the system takes of one, begins the time anew.
    response.setTimeout(clientIdleMs, () => {
      if (!response.socket || response.socket.writableLength === 0) return;
      exchange.failure = new RegistryError('client-idle', `the client has taken nothing for ${clientIdleMs} ms`);
      response.destroy();
    });
  }

  async #stream(
    response: ServerResponse,
    { body, start, end = Number.POSITIVE_INFINITY }: Extract<Content, { kind: 'body' }>,
    exchange: Exchange,
  ): Promise<void> {
    const piece = this.#idle.pop() ?? Buffer.allocUnsafeSlow(pieceBytes);
    let isFree = true;
    try {
      let position = start;
      while (position < end) {
        const loans = lentBy(body, { position, end: Math.min(end, position + pieceBytes) });
        if (loans.length > 0) {
          await write(
            response,
            loans.map(({ bytes }) => bytes),
          );
          // Only now: where the client has left, the socket may still hold them, and they are never used again.
          for (const { bytes, loan } of loans) {
            position += bytes.length;
            loan[Symbol.dispose]();
          }
          exchange.sentBytes = position - start;
          continue;
        }
        const room = end - position < piece.length ? piece.subarray(0, end - position) : piece;
        const count = await body.read(room, position, exchange.gone);
        if (count === 0) {
          if (end !== Number.POSITIVE_INFINITY) throw new Error('the body ended before its time');
          return;
        }
        isFree = false;
        await write(response, [room.subarray(0, count)]);
        isFree = true;
        position += count;
        exchange.sentBytes = position - start;
      }
    } finally {
      // What the socket may still hold is not written over.
      if (isFree && this.#idle.length < maxIdlePieces) this.#idle.push(piece);
    }
  }
}

/** What of a stretch of a body is in memory, as far as it goes without a gap. */
function lentBy(
  body: BlobBody,
  { position, end }: { position: number; end: number },
): { readonly bytes: Buffer; readonly loan: Loan }[] {
  const pieces: { bytes: Buffer; loan: Loan }[] = [];
  for (let next = position; next < end; ) {
    const loan = body.peek(next);
    if (loan === undefined) break;
    const bytes = loan.bytes.subarray(0, end - next);
    pieces.push({ bytes, loan });
    next += bytes.length;
  }
  return pieces;
}

/** Resolves when the pieces have left our memory. @throws ClientGone */
function write(response: ServerResponse, pieces: readonly Buffer[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const closed = () => reject(new ClientGone());
    response.once('close', closed);
    // Together they are one system call.
    response.cork();
    for (const [index, piece] of pieces.entries()) {
      if (index < pieces.length - 1) response.write(piece);
      else {
        response.write(piece, (error) => {
          response.removeListener('close', closed);
          if (error) reject(new ClientGone());
          else resolve();
        });
      }
    }
    response.uncork();
  });
}
