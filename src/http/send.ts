import type { ServerResponse } from 'node:http';
import type { Loan } from '../memory/slabs.ts';
import type { BlobBody } from '../mirror/body.ts';
import { RegistryError } from '../oci/error.ts';
import { ClientGone, type Exchange } from './exchange.ts';
import { overloadError } from './overload-error.ts';
import { type Piece, Pieces } from './pieces.ts';
import { SharedBytes } from './shared-bytes.ts';

/** Up to this size, copying a body behind its headers costs less than two writes. */
const singleWriteBytes = 16 * 1024;

/** An answer of the registry API. */
export interface Reply {
  readonly status: number;
  /** Name, value, name, value: the form that costs Node least. */
  readonly headers: string[];
  readonly content: Content;
  /** Called when the headers go out: the first bytes of its body could be read. */
  readonly onStart?: (() => void) | undefined;
}

export type Content =
  | { readonly kind: 'none' }
  | { readonly kind: 'bytes'; readonly bytes: Buffer }
  | ({ readonly kind: 'body'; readonly body: BlobBody; readonly early: boolean } & Stretch)
  /** Several stretches of a body, each behind a text, and a text at the end. */
  | { readonly kind: 'parts'; readonly body: BlobBody; readonly parts: readonly Part[]; readonly tail: string };

/** Bytes `start` to `end` (exclusive) of a body; to its end where that is not known. */
export interface Stretch {
  readonly start: number;
  readonly end: number | undefined;
}

export interface Part extends Stretch {
  readonly head: string;
  readonly end: number;
}

type Streamed = Extract<Content, { readonly body: BlobBody }>;

/** Sends answers at the pace of clients, within the memory that they may take. */
export class Sender {
  readonly #pieces = new Pieces();
  readonly #shared = new SharedBytes();
  readonly #options: { readonly clientIdleMs: number };

  /** @param options `clientIdleMs`: a client that takes nothing of what waits for it is cut after this; read each time */
  constructor(options: { readonly clientIdleMs: number }) {
    this.#options = options;
  }

  /**
   * Sends an answer at the client's pace.
   * @throws RegistryError 503 when there is no memory for it, and what the first read of a body throws, both before any
   *   header is sent; what a later read throws, when the connection has been cut short of `Content-Length`
   */
  async send(response: ServerResponse, reply: Reply, exchange: Exchange): Promise<void> {
    if (response.destroyed) return;
    const { status, headers, content, onStart } = reply;
    if (content.kind === 'none') {
      onStart?.();
      response.writeHead(status, headers);
      response.end();
      return;
    }
    if (content.kind !== 'bytes') return await this.#sendBody(response, { ...reply, content }, exchange);
    const { bytes } = content;
    if (bytes.length > singleWriteBytes && !this.#shared.take(bytes, exchange.ticket)) throw refusal(exchange);
    onStart?.();
    response.writeHead(status, headers);
    exchange.sentBytes = bytes.length;
    // A string of single-byte characters leaves together with the headers, as one piece of memory.
    if (bytes.length <= singleWriteBytes) response.end(bytes.toString('latin1'), 'latin1');
    else {
      response.end(bytes);
      this.#cutIdle(response, exchange);
    }
  }

  async #sendBody(
    response: ServerResponse,
    { status, headers, content, onStart }: Reply & { content: Streamed },
    exchange: Exchange,
  ): Promise<void> {
    using piece = this.#pieces.take(exchange.ticket, lengthOf(content));
    if (piece === undefined) throw refusal(exchange);
    const { body } = content;
    let first: FirstBytes | undefined;
    if (content.kind === 'body' && content.early) {
      response.writeHead(status, headers);
      // The client may wait for the headers while the first bytes have not arrived yet.
      response.flushHeaders();
    } else {
      // As long as no header is out, a body that cannot be read can still become an error, or another body.
      first = await readFirst(content, { piece, exchange });
      onStart?.();
      response.writeHead(status, headers);
      if (content.kind === 'body' && first && first.count <= singleWriteBytes && first.count === lengthOf(content)) {
        exchange.sentBytes = first.count;
        response.end(piece.upTo(first.count).toString('latin1', 0, first.count), 'latin1');
        return;
      }
    }
    this.#cutIdle(response, exchange);
    try {
      if (content.kind === 'body') await stream(response, { ...content, piece, first }, exchange);
      else {
        for (const [index, { head, start, end }] of content.parts.entries()) {
          await write(response, [Buffer.from(head, 'latin1')]);
          await stream(response, { body, start, end, piece, first: index === 0 ? first : undefined }, exchange);
        }
        await write(response, [Buffer.from(content.tail, 'latin1')]);
      }
      response.end();
    } catch (error) {
      response.destroy();
      throw error;
    }
  }

  /** Cuts the connection once the client has taken nothing for too long; a wait for the upstream is not its fault. */
  #cutIdle(response: ServerResponse, exchange: Exchange): void {
    const { clientIdleMs } = this.#options;
    // Every write, and every byte of it that the system accepts, restarts the timer.
    response.setTimeout(clientIdleMs, () => {
      if (!response.socket || response.socket.writableLength === 0) return;
      exchange.failure = new RegistryError('client-idle', `the client has taken nothing for ${clientIdleMs} ms`);
      response.destroy();
    });
  }
}

/** Bytes of the longest stretch; infinite where that is not known. */
function lengthOf(content: Streamed): number {
  const stretches: readonly Stretch[] = content.kind === 'body' ? [content] : content.parts;
  return Math.max(...stretches.map(({ start, end = Number.POSITIVE_INFINITY }) => end - start));
}

function refusal(exchange: Exchange): RegistryError {
  return overloadError(exchange.ticket.overload ?? 'memory');
}

/** Bytes that have been read into a piece before the headers went out. */
interface FirstBytes {
  readonly count: number;
}

async function readFirst(
  content: Streamed,
  { piece, exchange }: { piece: Piece; exchange: Exchange },
): Promise<FirstBytes | undefined> {
  const { start, end = Number.POSITIVE_INFINITY } = content.kind === 'body' ? content : (content.parts[0] ?? nothing);
  if (start >= end) return undefined;
  return { count: await content.body.read(piece.upTo(end - start), start, exchange.signal) };
}

const nothing: Stretch = { start: 0, end: 0 };

interface Streaming extends Stretch {
  readonly body: BlobBody;
  readonly piece: Piece;
  readonly first: FirstBytes | undefined;
}

async function stream(
  response: ServerResponse,
  { body, start, end = Number.POSITIVE_INFINITY, piece, first }: Streaming,
  exchange: Exchange,
): Promise<void> {
  let position = start;
  let isRead = first !== undefined;
  while (position < end) {
    const stretch = { position, end: Math.min(end, position + piece.length) };
    const mayLend = !isRead && piece.isLarge;
    let loans = mayLend ? lentBy(body, stretch) : [];
    if (mayLend && loans.length === 0 && body.arrival) {
      // Bytes that have not come yet are lent when they come, and not copied.
      await body.arrival(position, exchange.gone);
      loans = lentBy(body, stretch);
    }
    if (loans.length > 0) {
      await write(
        response,
        loans.map(({ bytes }) => bytes),
      );
      // Only now: where the client has left, the socket may still hold them, and they are never used again.
      for (const { bytes, loan } of loans) {
        position += bytes.length;
        exchange.sentBytes += bytes.length;
        loan[Symbol.dispose]();
      }
      continue;
    }
    const room = piece.upTo(end - position);
    const count = isRead ? (first?.count ?? 0) : await body.read(room, position, exchange.gone);
    isRead = false;
    if (count === 0) {
      if (end !== Number.POSITIVE_INFINITY) throw new Error('the body ended before its time');
      return;
    }
    piece.isLent = true;
    await write(response, [room.subarray(0, count)]);
    piece.isLent = false;
    position += count;
    exchange.sentBytes += count;
  }
}

/** The contiguous part of a section of a body that is in memory. */
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
