import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

/** A port that the system has given and gives to no other process, whether it is listened on or not. */
export interface ReservedPort extends AsyncDisposable {
  readonly port: number;
}

/**
 * Reserves a port for a program that cannot choose one itself, or for a server that goes and comes back. As long as a
 * connection of a port is open the system does not choose it for another program, while a program that names it may listen
 * on it; until one does, connections to it are refused.
 * @param host address at which it will be listened on
 */
export async function reservePort(host = '127.0.0.1'): Promise<ReservedPort> {
  const server = createServer();
  server.listen(0, host);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const accepted = once(server, 'connection') as Promise<[Socket]>;
  const client = connect(port, host);
  const [[socket]] = await Promise.all([accepted, once(client, 'connect')]);
  for (const end of [client, socket]) end.on('error', () => undefined);
  server.close();
  return {
    port,
    async [Symbol.asyncDispose]() {
      const closed = [client, socket].map((end) => once(end, 'close'));
      for (const end of [client, socket]) end.destroy();
      await Promise.all(closed);
    },
  };
}
