import { createServer as createHttpServer, type RequestListener, type Server } from 'node:http';
import { type Server as Acceptor, type AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { createServer as createTlsServer, TLSSocket, Server as TlsServer } from 'node:tls';
import { moveAway } from '../front/moved-connection.ts';
import { createPlainAcceptor } from '../front/plain-acceptor.ts';
import { RawConnections, type RawConnectionsOptions } from '../front/raw-connections.ts';
import type { ShortWay } from '../front/short-way.ts';
import { type SystemCalls, systemCalls } from '../front/system-calls.ts';
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
  /** Answers what needs no decision; absent: the handler has every request. */
  readonly way?: ShortWay | undefined;
  /** Has other threads accept connections, which give those here that need a decision; absent: all are accepted here. */
  readonly fronts?: ((adopt: (guest: Guest) => void) => Promise<FrontListener>) | undefined;
}

/** A connection that another thread has accepted. */
export interface Guest {
  readonly socket: Socket;
  /** The bytes that were read of it. */
  readonly bytes: Buffer;
  /** Gives it back, with nothing read of it; absent: it stays. */
  readonly giveBack: (() => void) | undefined;
}

/** The threads that accept connections. */
export interface FrontListener {
  /** `host:port` they listen on. */
  readonly address: string;
  /** As of {@link Listener.renewTls}. */
  renewTls(tls: ServerTls): void;
  /** As of {@link Listener.close}. */
  close(drainMs: number): Promise<void>;
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
  const calls = options.way && systemCalls();
  const handOver: RawConnectionsOptions['handOver'] = (socket, { bytes, key }) => {
    if (raw && calls && key !== undefined && !(socket instanceof TLSSocket)) {
      connections.hosts(socket, () => takeBack(socket, { server, raw, calls, connections }));
    }
    give(server, socket, bytes);
  };
  const raw: RawConnections | undefined = options.way && new RawConnections({ way: options.way, calls, handOver });
  const read = (socket: Socket, isRaw: boolean): void => {
    if (raw && isRaw) raw.take(socket);
    else server.emit('connection', socket);
  };
  const acceptor = createAcceptor(options, {
    accepted: (socket) => connections.accepted(socket),
    secured: (socket) => connections.secured(socket),
    read,
  });
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
  const renewTls = (tls: ServerTls): void => {
    if (acceptor instanceof TlsServer) acceptor.setSecureContext({ minVersion: 'TLSv1.2', ...tls });
  };
  const fronts = await options.fronts?.(({ socket, bytes, giveBack }) => {
    if (connections.accepted(socket) && giveBack) connections.hosts(socket, giveBack);
    give(server, socket, bytes);
  });
  const closed = (drainMs: number) =>
    Promise.all([fronts ? fronts.close(drainMs) : stopAccepting(acceptor), untilEmpty(connections)]);
  if (fronts) {
    return {
      address: fronts.address,
      renewTls: (tls) => fronts.renewTls(tls),
      close: (drainMs) => close(() => closed(drainMs), { server, connections, raw, drainMs }),
    };
  }
  return {
    address: await startAccepting(acceptor, options),
    renewTls,
    close: (drainMs) => close(() => closed(drainMs), { server, connections, raw, drainMs }),
  };
}

/** Creates the server that reads requests. It never listens itself: connections are given to it. */
function createServer(handler: RequestListener, { takesBodies = false }: ListenOptions): Server {
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
  };
  const server = createHttpServer(settings, handler);
  // From here on it looks for connections that take too long.
  server.emit('listening');
  return server;
}

/** Gives a connection to what reads requests. @param bytes what has been read of it */
function give(server: Server, socket: Socket, bytes: Buffer): void {
  if (bytes.length > 0) socket.unshift(bytes);
  server.emit('connection', socket);
}

/**
 * Has a plain connection read straight again. It gets a new descriptor, because Node's server does not let go of a socket.
 */
function takeBack(
  socket: Socket,
  parts: { server: Server; raw: RawConnections; calls: SystemCalls; connections: Connections },
): void {
  const { server, raw, calls, connections } = parts;
  connections.leaves(socket);
  const moved = moveAway(socket, { bytes: Buffer.alloc(0), key: undefined, calls });
  if (moved === undefined) return;
  const again = new Socket({ fd: moved.fd, allowHalfOpen: true });
  if (connections.accepted(again)) raw.take(again, { isNew: false });
  else server.emit('connection', again);
}

/** Creates the server that accepts connections. */
function createAcceptor(
  { tls }: ListenOptions,
  on: {
    readonly accepted: (socket: Socket) => boolean;
    readonly secured: (socket: Socket) => void;
    readonly read: (socket: Socket, isRaw: boolean) => void;
  },
): Acceptor {
  if (!tls) return createPlainAcceptor((socket) => on.read(socket, on.accepted(socket)), systemCalls());
  const { cert, key, ca, minVersion = 'TLSv1.2', requiresCertificate = true } = tls;
  const clients = ca === undefined ? {} : { ca, requestCert: true, rejectUnauthorized: requiresCertificate };
  const server = createTlsServer(
    {
      allowHalfOpen: true,
      noDelay: true,
      cert,
      key,
      ...clients,
      minVersion,
      handshakeTimeout: 15_000,
      ALPNProtocols: ['http/1.1'],
    },
    (socket) => {
      on.secured(socket);
      on.read(socket, true);
    },
  );
  server.on('connection', (socket: Socket) => void on.accepted(socket));
  server.on('tlsClientError', (_error, socket) => socket.destroy());
  return server;
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

/** @returns `host:port`. @throws Error in one sentence if the address is not available */
async function startAccepting(acceptor: Acceptor, wanted: Pick<ListenOptions, 'host' | 'port'>): Promise<string> {
  await new Promise<void>((resolve, reject) => {
    acceptor.once('error', reject);
    acceptor.listen(wanted.port, wanted.host, () => {
      acceptor.removeListener('error', reject);
      resolve();
    });
  }).catch((error: NodeJS.ErrnoException) => {
    const place = `${wanted.host ?? '*'}:${wanted.port}`;
    const why = error.code === 'EADDRINUSE' ? 'another program listens there' : (error.code ?? error.message);
    throw new Error(`cannot listen on ${place}: ${why}`, { cause: error });
  });
  const { address, family, port } = acceptor.address() as AddressInfo;
  return family === 'IPv6' ? `[${address}]:${port}` : `${address}:${port}`;
}

/** Resolves when every connection is closed. */
function stopAccepting(acceptor: Acceptor): Promise<void> {
  return new Promise((resolve) => acceptor.close(() => resolve()));
}

async function untilEmpty(connections: Connections): Promise<void> {
  while (connections.count > 0) await new Promise((resolve) => setTimeout(resolve, 20));
}

/** @param stop accepts no connection any more, and resolves when all are closed */
async function close(
  stop: () => Promise<unknown>,
  parts: { server: Server; connections: Connections; raw: RawConnections | undefined; drainMs: number },
): Promise<void> {
  const { server, connections, raw, drainMs } = parts;
  const closed = stop();
  connections.drain();
  raw?.drain();
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
  // It has listened to nothing, and ends its timer.
  server.close();
}
