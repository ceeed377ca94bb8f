import { createServer, type Server, Socket } from 'node:net';
import type { SystemCalls } from './system-calls.ts';

/** Connections that are accepted in one turn of the event loop, at most: those that are open have their turn, too. */
const maxAtOnce = 64;

const settings = { allowHalfOpen: true, noDelay: true };

/**
 * Creates a server for plain connections. Node accepts one in each turn of its event loop, and a turn is long while many
 * answers go out: the last of a hundred clients that connect at once would wait for a hundred turns. Here each connection
 * brings in the others that wait. These are not counted by the server: its `close` does not wait for them.
 * @param calls absent: Node accepts them all
 */
export function createPlainAcceptor(
  take: (socket: Socket) => void,
  calls: Pick<SystemCalls, 'accept'> | undefined,
): Server {
  const server = createServer(settings, (socket) => {
    take(socket);
    const listening = calls && descriptorOf(server);
    if (listening === undefined) return;
    for (let accepted = 1; accepted < maxAtOnce; accepted++) {
      const fd = calls!.accept(listening);
      if (fd === undefined) return;
      const other = new Socket({ fd, allowHalfOpen: settings.allowHalfOpen });
      other.setNoDelay(settings.noDelay);
      take(other);
    }
  });
  return server;
}

/** `undefined` where the server listens no more. */
function descriptorOf(server: Server): number | undefined {
  const fd = (server as unknown as { readonly _handle?: { readonly fd?: number } | null })._handle?.fd;
  return fd === undefined || fd < 0 ? undefined : fd;
}
