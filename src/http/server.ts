import { createServer as createPlainServer, type RequestListener, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer, Server as TlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';

export interface ListenOptions {
  /** `undefined`: every address. */
  readonly host: string | undefined;
  /** 0: one the system chooses. */
  readonly port: number;
  /** Absent: plain HTTP. */
  readonly tls?: ServerTls | undefined;
}

/** PEM texts; `ca` asks clients for a certificate of one of these. */
export interface ServerTls {
  readonly cert: string;
  readonly key: string;
  readonly ca: string | undefined;
}

/** A listening server. */
export interface Listener {
  /** `host:port`, with the port that was chosen. */
  readonly address: string;
  /** Takes other certificates for connections that are made from now on. @throws Error where they cannot be used */
  renewTls(tls: ServerTls): void;
  /**
   * Closes the listener and every connection that waits for nothing at once, lets answers under way end within `drainMs`,
   * then cuts the rest. Answers that begin meanwhile are the last of their connection, and say so.
   */
  close(drainMs: number): Promise<void>;
}

/** @throws Error in one sentence when the address cannot be had */
export async function listen(handler: RequestListener, options: ListenOptions): Promise<Listener> {
  const connections = new Connections();
  const server = createServer((request, response) => {
    connections.answering(response);
    handler(request, response);
  }, options.tls);
  server.on('connection', (socket: Socket) => connections.add(socket));
  server.on('secureConnection', (socket: Socket) => connections.add(socket));
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port, options.host, () => {
      server.removeListener('error', reject);
      resolve();
    });
  }).catch((error: NodeJS.ErrnoException) => {
    const place = `${options.host ?? '*'}:${options.port}`;
    const why = error.code === 'EADDRINUSE' ? 'another program listens there' : (error.code ?? error.message);
    throw new Error(`cannot listen on ${place}: ${why}`, { cause: error });
  });
  const { address, family, port } = server.address() as AddressInfo;
  return {
    address: family === 'IPv6' ? `[${address}]:${port}` : `${address}:${port}`,
    renewTls: (tls) => {
      if (server instanceof TlsServer) server.setSecureContext({ ...tls, minVersion: 'TLSv1.2' });
    },
    close: (drainMs) => close(server, { connections, drainMs }),
  };
}

function createServer(handler: RequestListener, tls: ListenOptions['tls']): Server {
  const settings = {
    // A mirror is asked rarely by each node and often by all: connections may idle, but not for ever.
    keepAliveTimeout: 75_000,
    headersTimeout: 30_000,
    // Pulls have no bodies; a large layer on a slow line takes its time to be sent, not to be asked for.
    requestTimeout: 60_000,
    maxHeaderSize: 32 * 1024,
    noDelay: true,
  };
  if (!tls) return createPlainServer(settings, handler);
  const { cert, key, ca } = tls;
  const clients = ca === undefined ? {} : { ca, requestCert: true, rejectUnauthorized: true };
  return createTlsServer({ ...settings, cert, key, ...clients, minVersion: 'TLSv1.2' }, handler);
}

/** The open connections, those that Node's own list lacks too: before a TLS handshake is over there is no request. */
class Connections {
  readonly #latest = new Map<Socket, ServerResponse | undefined>();
  #isDraining = false;

  add(socket: Socket): void {
    this.#latest.set(socket, undefined);
    socket.once('close', () => this.#latest.delete(socket));
  }

  /** A request has come. */
  answering(response: ServerResponse): void {
    if (this.#isDraining) response.shouldKeepAlive = false;
    const { socket } = response;
    if (socket) this.#latest.set(socket, response);
  }

  /** From now on each answer is the last of its connection; one on which nothing has come is closed. */
  drain(): void {
    this.#isDraining = true;
    for (const [socket, response] of this.#latest) {
      if (response && !response.headersSent) response.shouldKeepAlive = false;
      if (socket.bytesRead === 0) socket.destroy();
    }
  }

  cut(): void {
    for (const socket of this.#latest.keys()) socket.destroy();
  }
}

async function close(
  server: Server,
  { connections, drainMs }: { connections: Connections; drainMs: number },
): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  connections.drain();
  server.closeIdleConnections();
  // A connection that was busy is idle when its answer has gone out: nothing else closes it then.
  const sweep = setInterval(() => server.closeIdleConnections(), 100);
  const cut = setTimeout(() => {
    server.closeAllConnections();
    connections.cut();
  }, drainMs);
  await closed;
  clearInterval(sweep);
  clearTimeout(cut);
}
