import { connect, type Socket } from 'node:net';

/** A connection that sends the given bytes one by one, and reads nothing until it is asked to. */
export interface RawClient extends Disposable {
  readonly socket: Socket;
  /** Everything that has come so far. */
  text(): string;
  /** Resolves once what has come takes the test, or the connection is closed. */
  until(test: (text: string) => boolean): Promise<string>;
  readonly closed: Promise<void>;
}

export async function rawClient(
  origin: string,
  { sends, reads = true, localAddress }: { sends: string; reads?: boolean; localAddress?: string },
): Promise<RawClient> {
  const { hostname, port } = new URL(origin);
  const socket = connect({ host: hostname, port: Number(port), ...(localAddress !== undefined && { localAddress }) });
  let text = '';
  let look = (): void => undefined;
  socket.setEncoding('latin1');
  if (reads) {
    socket.on('data', (chunk: string) => {
      text += chunk;
      look();
    });
  }
  socket.on('error', () => undefined);
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', () => resolve());
    socket.once('error', reject);
  });
  socket.write(sends);
  return {
    socket,
    closed,
    text: () => text,
    until(test) {
      const { promise, resolve } = Promise.withResolvers<string>();
      look = () => {
        if (test(text)) resolve(text);
      };
      look();
      void closed.then(() => resolve(text));
      return promise;
    },
    [Symbol.dispose]: () => void socket.destroy(),
  };
}

export function getText(path: string, headers = ''): string {
  return `GET ${path} HTTP/1.1\r\nHost: mirror\r\n${headers}\r\n`;
}

/** So many clients that do the same. */
export async function rawClients(
  count: number,
  origin: string,
  options: Parameters<typeof rawClient>[1],
): Promise<DisposableStack> {
  const clients = new DisposableStack();
  for (let index = 0; index < count; index += 1) clients.use(await rawClient(origin, options));
  return clients;
}
