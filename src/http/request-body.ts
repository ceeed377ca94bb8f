import type { Context, Middleware, Next } from 'koa';
import { RegistryError } from '../oci/error.ts';
import { batchesOf } from './body-batches.ts';
import type { Exchange } from './exchange.ts';
import { overloadError } from './overload-error.ts';

/** How long a body that is left of a refused request is read away before its connection is closed, in milliseconds. */
const maxLeaveMs = 5_000;
/** A body that is kept whole is counted after so many bytes. */
const readBytes = 64 * 1024;

export interface Sending {
  readonly ctx: Context;
  readonly exchange: Exchange;
  /** A client that sends nothing of its body for this long is disconnected, in milliseconds. */
  readonly clientIdleMs: number;
}

/** The `Content-Length` of a request in bytes; `undefined` if absent. */
export function lengthOf({ req }: Context): number | undefined {
  const text = req.headers['content-length'];
  return text === undefined || !/^\d{1,15}$/.test(text) ? undefined : Number(text);
}

/** Memory that a body passes through at most: a batch that is worked on, and one that is gathered. */
const batchesAtOnce = 2;
/** Larger batches cost no less, in bytes. */
const mostBatchBytes = 256 * 1024;

/**
 * The body of a request in batches of several pieces, smaller ones while much memory is in use. The pieces belong to the
 * caller. @throws RegistryError 503 where there is no memory; `client-idle`; what Node does when the client leaves
 */
export function bodyOf({ ctx, exchange, clientIdleMs }: Sending): AsyncIterable<readonly Buffer[]> {
  const { ticket } = exchange;
  const batchBytes = Math.min(ticket.pieceBytes, mostBatchBytes);
  const mostBytes = Math.min(batchesAtOnce * batchBytes, lengthOf(ctx) ?? Number.POSITIVE_INFINITY);
  if (!ticket.take(mostBytes)) throw overloadError(ticket.overload ?? 'memory');
  return batchesOf(ctx.req, { batchBytes, idleMs: clientIdleMs });
}

/** The whole body of a request. @throws RegistryError 413 where it has more bytes than that; 503 where there is no memory */
export async function readBody(sending: Sending, { maxBytes }: { readonly maxBytes: number }): Promise<Buffer> {
  const { ctx, exchange, clientIdleMs } = sending;
  const length = lengthOf(ctx);
  if (length !== undefined && length > maxBytes) throw tooLarge(maxBytes);
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const batch of batchesOf(ctx.req, { batchBytes: readBytes, idleMs: clientIdleMs })) {
    for (const piece of batch) {
      bytes += piece.length;
      if (bytes > maxBytes) throw tooLarge(maxBytes);
      if (!exchange.ticket.take(piece.length)) throw overloadError(exchange.ticket.overload ?? 'memory');
      pieces.push(piece);
    }
  }
  return Buffer.concat(pieces);
}

/**
 * Lets a client read the answer to what it has not finished sending: closed at once, its connection would be reset, and
 * the answer lost. A client that goes on sending for long is cut.
 */
export function leaveBody({ req }: Context): void {
  if (req.complete || req.readableEnded) return;
  const timer = setTimeout(() => req.socket.destroy(), maxLeaveMs);
  req.once('close', () => clearTimeout(timer));
  req.resume();
}

/** A step whose refusals a client can read though it has not finished sending: see {@link leaveBody}. */
export function leavingBodies(serve: (ctx: Context, next: Next) => Promise<void>): Middleware {
  return async function serveHosted(ctx, next) {
    try {
      await serve(ctx, next);
    } catch (error) {
      leaveBody(ctx);
      throw error;
    }
  };
}

function tooLarge(maxBytes: number): RegistryError {
  return new RegistryError('manifest-too-large', `a manifest may have at most ${maxBytes} bytes here`);
}
