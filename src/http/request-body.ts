import type { Context, Middleware, Next } from 'koa';
import { RegistryError } from '../oci/error.ts';
import type { Exchange } from './exchange.ts';
import { overloadError } from './overload-error.ts';

/** How long a body that is left of a refused request is read away before its connection is closed, in milliseconds. */
const maxLeaveMs = 5_000;

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

/**
 * The body of a request, piece by piece. @throws what Node does when the client leaves or sends nothing for too long
 */
export function bodyOf({ ctx, clientIdleMs }: Sending): AsyncIterable<Buffer> {
  const { req } = ctx;
  req.setTimeout(clientIdleMs, () =>
    req.destroy(new RegistryError('client-idle', `the client has sent nothing for ${clientIdleMs} ms`)),
  );
  // A handler that stops reading still has to answer on the connection.
  return req.iterator({ destroyOnReturn: false });
}

/** The whole body of a request. @throws RegistryError 413 where it has more bytes than that; 503 where there is no memory */
export async function readBody(sending: Sending, { maxBytes }: { readonly maxBytes: number }): Promise<Buffer> {
  const { ctx, exchange } = sending;
  const length = lengthOf(ctx);
  if (length !== undefined && length > maxBytes) throw tooLarge(maxBytes);
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of bodyOf(sending)) {
    bytes += piece.length;
    if (bytes > maxBytes) throw tooLarge(maxBytes);
    if (!exchange.ticket.take(piece.length)) throw overloadError(exchange.ticket.overload ?? 'memory');
    pieces.push(piece);
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
