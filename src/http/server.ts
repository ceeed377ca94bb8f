import { createServer as createPlainServer, type RequestListener, type Server } from 'node:http';
import { createServer as createTlsServer, Server as TlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Admission } from './admission.ts';
import { Connections } from './connections.ts';

export interface ListenOptions {
  /** Counts connections and requests, and refuses what is too much. */
  readonly admission: Admission;
  /** Called for each request that cannot be read; it is answered with 400, 408 or 431. */
  readonly onMalformed: (kind: MalformedKind) => void;
  /** Whether requests may have large bodies, which take their time. */
  readonly takesBodies?: boolean;
  /** `undefined`: every address. */
  readonly host: string | undefined;
  /** 0: one the system chooses. */
  readonly port: number;
  /** Absent: plain HTTP. */
  readonly tls?: ServerTls | undefined;
}

/** PEM texts; `ca` asks clients for a certificate of one of these, and `requiresCertificate` refuses those without. */
export interface ServerTls {
  readonly cert: string;
  readonly key: string;
  readonly ca: string | undefined;
  /** Default: `TLSv1.2`. */
  readonly minVersion?: 'TLSv1.2' | 'TLSv1.3';
  /** Default: true. */
  readonly requiresCertificate?: boolean;
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

/** @throws Error in one sentence if the address is not available */
export async function listen(handler: RequestListener, options: ListenOptions): Promise<Listener> {
  const connections = new Connections(handler, options.admission);
  const server = createServer((request, response) => connections.requested(request, response), options);
  server.on('connection', (socket: Socket) => connections.accepted(socket));
  server.on('secureConnection', (socket: Socket) => connections.secured(socket));
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    const kind = malformedKind(error.code);
    if (kind === undefined) socket.destroy();
    else {
      options.onMalformed(kind);
      // In the middle of an answer there is no place for another.
      if (connections.isAnswering(socket)) socket.destroy();
      else refuseMalformed(socket, kind);
    }
  });
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
      if (server instanceof TlsServer) server.setSecureContext({ minVersion: 'TLSv1.2', ...tls });
    },
    close: (drainMs) => close(server, { connections, drainMs }),
  };
}

function createServer(handler: RequestListener, { tls, takesBodies = false }: ListenOptions): Server {
  const settings = {
    // A mirror is asked rarely by each node and often by all: connections may idle, but not for ever.
    keepAliveTimeout: 75_000,
    headersTimeout: 30_000,
    // Connections that take longer for their headers are looked for this often.
    connectionsCheckingInterval: 5_000,
    // Pulls have no bodies; a large layer on a slow line takes its time to be sent, not to be asked for.
    // An upload takes as long as it needs; its own idle time ends it.
    requestTimeout: takesBodies ? 0 : 60_000,
    maxHeaderSize: 32 * 1024,
    noDelay: true,
  };
  if (!tls) return createPlainServer(settings, handler);
  const { cert, key, ca, minVersion = 'TLSv1.2', requiresCertificate = true } = tls;
  const clients = ca === undefined ? {} : { ca, requestCert: true, rejectUnauthorized: requiresCertificate };
  const tlsSettings = { cert, key, ...clients, minVersion, handshakeTimeout: 15_000 };
  return createTlsServer({ ...settings, ...tlsSettings }, handler);
}

/** Why a request is malformed: no HTTP, headers that are too large, or that did not come in time. A label of metrics. */
export type MalformedKind = 'malformed' | 'too_large' | 'too_slow';

const malformedAnswers: Readonly<Record<MalformedKind, string>> = {
  malformed: '400 Bad Request',
  too_large: '431 Request Header Fields Too Large',
  too_slow: '408 Request Timeout',
};

/** @returns `undefined` for a connection that broke or whose TLS handshake failed: there is no request then */
function malformedKind(code = ''): MalformedKind | undefined {
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return 'too_slow';
  if (code === 'HPE_HEADER_OVERFLOW') return 'too_large';
  return code.startsWith('HPE_') && code !== 'HPE_INVALID_EOF_STATE' ? 'malformed' : undefined;
}

/** Answers what cannot be read as a request, and closes its connection. */
function refuseMalformed(socket: Duplex, kind: MalformedKind): void {
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  socket.end(`HTTP/1.1 ${malformedAnswers[kind]}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`, () =>
    socket.destroy(),
  );
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
