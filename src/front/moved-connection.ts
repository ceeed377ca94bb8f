import type { Socket } from 'node:net';
import type { MovedConnection } from './messages.ts';
import type { Unanswered } from './raw-connections.ts';
import type { SystemCalls } from './system-calls.ts';

/**
 * Takes a plain connection away from this thread, for another one: under a descriptor of its own it stays open when the
 * socket of this thread is closed. All that was written to it has been sent.
 * @returns `undefined` where the connection is gone
 */
export function moveAway(
  socket: Socket,
  { bytes, key, calls }: Unanswered & { readonly calls: Pick<SystemCalls, 'duplicate'> },
): MovedConnection | undefined {
  const fd = (socket as unknown as { readonly _handle?: { readonly fd?: number } | null })._handle?.fd;
  if (fd === undefined || fd < 0 || socket.destroyed) {
    socket.destroy();
    return undefined;
  }
  try {
    return { fd: calls.duplicate(fd), bytes: new Uint8Array(bytes), key };
  } catch {
    return undefined;
  } finally {
    socket.destroy();
  }
}
