import { once } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Replica } from '../../src/coordination/coordinator.ts';

/** Another replica, as a test scripts it. */
export interface PeerServer extends AsyncDisposable {
  readonly origin: string;
  readonly replica: Replica;
  readonly requests: IncomingMessage[];
  /** What answers from now on. */
  answer: (request: IncomingMessage, response: ServerResponse) => void;
  /** Connections that have been made. */
  readonly connections: { count: number };
}

export async function startPeer(answer: RequestListener = (_, response) => void response.end()): Promise<PeerServer> {
  const requests: IncomingMessage[] = [];
  const connections = { count: 0 };
  const server = createServer((request, response) => {
    requests.push(request);
    peer.answer(request, response);
  });
  server.on('connection', () => (connections.count += 1));
  // A test that is held up for long finds its connections as they were.
  server.keepAliveTimeout = 0;
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const peer: PeerServer = {
    origin,
    replica: { id: 'other', address: origin, boot: 'run', isOffline: false },
    requests,
    connections,
    answer,
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
  return peer;
}
