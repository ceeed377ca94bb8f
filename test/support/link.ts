import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

/** An address that leads to a server, and fails on demand as a network does. */
export interface Link extends AsyncDisposable {
  readonly origin: string;
  /** Origin that connections lead to that are made from now on. */
  target: string;
  /**
   * Holds everything that servers send once they have sent so many bytes from now on, in all.
   * @returns `reached` settles when it holds. `cut` closes the connections that are open then; `leave` leaves them silent
   *   for ever; after either of them, new connections work again. `release` lets everything continue
   */
  holdAfter(bytes: number): {
    readonly reached: Promise<void>;
    cut(): void;
    leave(): void;
    release(): void;
  };
}

interface Pair {
  readonly client: Socket;
  readonly server: Socket;
}

/** @param target origin of the server that it leads to at first, plain HTTP */
export async function startLink(target: string): Promise<Link> {
  const open = new Set<Pair>();
  const silent = new Set<Pair>();
  let leftBytes = Number.POSITIVE_INFINITY;
  let reached = Promise.withResolvers<void>();
  const listener = createServer((client) => {
    const { hostname, port } = new URL(link.target);
    const server = connect(Number(port), hostname);
    const pair: Pair = { client, server };
    open.add(pair);
    for (const [one, other] of [
      [client, server],
      [server, client],
    ] as const) {
      one.on('error', () => other.destroy());
      one.on('close', () => {
        open.delete(pair);
        silent.delete(pair);
        other.destroy();
      });
    }
    client.pipe(server);
    server.on('data', (bytes: Buffer) => {
      client.write(bytes);
      leftBytes -= bytes.length;
      if (leftBytes > 0) return;
      for (const each of open) each.server.pause();
      reached.resolve();
    });
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const resume = (): void => {
    leftBytes = Number.POSITIVE_INFINITY;
    for (const pair of open) if (!silent.has(pair)) pair.server.resume();
  };
  const link: Link = {
    origin: `http://127.0.0.1:${(listener.address() as AddressInfo).port}`,
    target,
    holdAfter(bytes) {
      leftBytes = bytes;
      reached = Promise.withResolvers();
      return {
        reached: reached.promise,
        cut() {
          for (const { client } of open) client.destroy();
          resume();
        },
        leave() {
          for (const pair of open) silent.add(pair);
          resume();
        },
        release: resume,
      };
    },
    async [Symbol.asyncDispose]() {
      const closed = once(listener, 'close');
      listener.close();
      for (const { client, server } of open) for (const socket of [client, server]) socket.destroy();
      await closed;
    },
  };
  return link;
}
