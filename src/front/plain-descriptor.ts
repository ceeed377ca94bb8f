import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';

/**
 * The descriptor of a plain socket all of whose bytes are with the system; `undefined` where bytes that are given to the
 * system past the socket would be out of order, or not encrypted.
 */
export function plainDescriptor(socket: Socket): number | undefined {
  if (socket.writableLength > 0 || socket instanceof TLSSocket) return undefined;
  const fd = (socket as unknown as { readonly _handle?: { readonly fd?: number } | null })._handle?.fd;
  return fd === undefined || fd < 0 ? undefined : fd;
}
