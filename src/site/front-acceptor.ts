import type { Server, Socket } from 'node:net';
import { createServer as createTlsServer, type TLSSocket, Server as TlsServer } from 'node:tls';
import type { FrontTls } from '../front/messages.ts';
import { createPlainAcceptor } from '../front/plain-acceptor.ts';
import type { SystemCalls } from '../front/system-calls.ts';
import type { Admission } from '../http/admission.ts';

/** Connections past the limit whose handshake goes on at a time, so that they get an answer; others are closed at once. */
const maxRefusing = 64;
const handshakeMs = 15_000;

export interface FrontAcceptorOptions {
  /** Absent: plain HTTP. */
  readonly tls?: FrontTls | undefined;
  readonly admission: Admission;
  readonly calls: Pick<SystemCalls, 'accept'>;
  /** @param isRefused whether there is no room for it: the main thread refuses it */
  readonly accepted: (socket: Socket, isRefused: boolean) => void;
}

/** Creates the server that accepts the connections of a front thread. */
export function createFrontAcceptor({ tls, admission, calls, accepted }: FrontAcceptorOptions): Server {
  if (tls === undefined) {
    return createPlainAcceptor((socket) => accepted(socket, admission.connected(socket) !== undefined), calls);
  }
  // A connection counts from its first packet on, not from the end of its handshake.
  const shaking = new Map<string, Socket>();
  let refusing = 0;
  const server = createTlsServer({
    allowHalfOpen: true,
    noDelay: true,
    ...tlsOptions(tls),
    handshakeTimeout: handshakeMs,
    ALPNProtocols: ['http/1.1'],
  });
  server.on('connection', (socket: Socket) => {
    const isRefused = admission.connected(socket) !== undefined;
    if (isRefused && refusing >= maxRefusing) {
      socket.destroy();
      return;
    }
    const end = endOf(socket);
    shaking.set(end, socket);
    if (isRefused) refusing += 1;
    socket.once('close', () => {
      if (isRefused) refusing -= 1;
      if (shaking.get(end) === socket) shaking.delete(end);
    });
  });
  server.on('secureConnection', (socket: TLSSocket) => {
    const end = endOf(socket);
    const plain = shaking.get(end);
    shaking.delete(end);
    if (plain) admission.leaves(plain);
    accepted(socket, admission.connected(socket) !== undefined);
  });
  server.on('tlsClientError', (_error, socket) => socket.destroy());
  return server;
}

/** Takes another certificate for connections that are made from now on. */
export function renewFrontTls(server: Server, tls: FrontTls): void {
  if (server instanceof TlsServer) server.setSecureContext(tlsOptions(tls));
}

function tlsOptions({ cert, key, minVersion = 'TLSv1.2' }: FrontTls): FrontTls {
  return { cert, key, minVersion };
}

/** The other end, of which there is one connection at a time. */
function endOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`;
}
