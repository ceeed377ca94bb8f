import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer, type ServerOptions } from 'node:https';
import type { Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import type { Answer } from './answers.ts';
import { applyFault, type Fault, PlacedFault } from './faults.ts';
import { type ReservedPort, reservePort } from './ports.ts';
import { matches, type RecordedRequest, type RequestFilter } from './recorded-request.ts';
import { createThrottle, type Throttle } from './throttle.ts';

/** How a {@link ScriptedServer} listens, sends and answers. */
export interface ScriptedServerOptions {
  /** Address to listen on. */
  readonly host: string;
  readonly tls?: ServerOptions;
  /** Shared by all that is sent. */
  readonly throttle?: Throttle;
  readonly bytesPerSecondPerConnection?: number;
  /** Before the headers of each answer. */
  readonly latencyMs?: number;
  readonly digestOf: (path: string) => string | undefined;
  readonly signedUrl: (path: string, reusable: boolean) => string;
  readonly answer: (request: RecordedRequest) => Answer;
  /** Another server that answers, and records, what is asked for a path of this one. */
  readonly instead?: (path: string) => ScriptedServer | undefined;
}

interface Placement {
  readonly filter: RequestFilter | undefined;
  readonly placed: PlacedFault;
}

/** An HTTP server that records what it is asked and answers wrongly on demand. */
export class ScriptedServer implements AsyncDisposable {
  readonly requests: RecordedRequest[] = [];
  readonly #options: ScriptedServerOptions;
  readonly #sockets = new Map<Socket, { readonly number: number; readonly throttle: Throttle | undefined }>();
  readonly #ended = new AbortController();
  #placements: Placement[] = [];
  #connections = 0;
  #server: Server | undefined;
  #reserved: ReservedPort | undefined;
  #port = 0;

  constructor(options: ScriptedServerOptions) {
    this.#options = options;
  }

  /** `127.0.0.1:40123` */
  get host(): string {
    return `${this.#options.host}:${this.#port}`;
  }

  get origin(): string {
    return `${this.#options.tls ? 'https' : 'http'}://${this.host}`;
  }

  /** Connections that are open now. */
  get openConnections(): number {
    return this.#sockets.size;
  }

  /** Whether a connection is open now. @param number as {@link RecordedRequest.connection} has it */
  isOpen(number: number): boolean {
    return this.#sockets.values().some((socket) => socket.number === number);
  }

  /** Listens, the first time on a port of the system's choice, then on the same one again. */
  async listen(): Promise<void> {
    this.#reserved ??= await reservePort(this.#options.host);
    this.#port = this.#reserved.port;
    const handle = (request: IncomingMessage, response: ServerResponse): void => {
      const { pathname } = new URL(request.url ?? '/', this.origin);
      const server = this.#options.instead?.(pathname) ?? this;
      server.#handle(request, response).catch((error: unknown) => {
        if (!response.destroyed) response.destroy(error instanceof Error ? error : undefined);
      });
    };
    const server = this.#options.tls ? createTlsServer(this.#options.tls, handle) : createServer(handle);
    server.on(this.#options.tls ? 'secureConnection' : 'connection', (socket: Socket) => this.#track(socket));
    this.#server = server;
    server.listen(this.#port, this.#options.host);
    await once(server, 'listening');
  }

  /** Closes the port and every connection; what the server holds and has recorded stays. */
  async suspend(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    this.#server = undefined;
    const closed = once(server, 'close');
    server.close();
    server.closeAllConnections();
    for (const socket of this.#sockets.keys()) socket.destroy();
    await closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended.abort();
    this.clearFaults();
    await this.suspend();
    await this.#reserved?.[Symbol.asyncDispose]();
    this.#reserved = undefined;
  }

  /** Puts a fault in place for the requests that the filter takes; several faults add up in the order of placing. */
  place(filter: RequestFilter | undefined, fault: Fault, options: { readonly times?: number } = {}): PlacedFault {
    const placed = new PlacedFault(fault, options.times ?? Number.POSITIVE_INFINITY);
    this.#placements.push({ filter, placed });
    return placed;
  }

  /** Releases and removes every fault. */
  clearFaults(): void {
    for (const { placed } of this.#placements) placed.release();
    this.#placements = [];
  }

  #track(socket: Socket): void {
    const rate = this.#options.bytesPerSecondPerConnection;
    this.#connections += 1;
    this.#sockets.set(socket, { number: this.#connections, throttle: rate ? createThrottle(rate) : undefined });
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#sockets.delete(socket));
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', this.origin);
    const gone = new AbortController();
    response.on('close', () => gone.abort());
    const record: RecordedRequest = {
      method: request.method ?? '',
      path: url.pathname,
      query: url.searchParams,
      headers: request.headers,
      body: await text(request),
      digest: this.#options.digestOf(url.pathname),
      connection: this.#sockets.get(request.socket)?.number ?? 0,
      status: undefined,
      bytesSent: 0,
      complete: false,
    };
    this.requests.push(record);
    const answer = this.#options.answer(record);
    for (const { filter, placed } of this.#placements) {
      if (matches(filter, record) && placed.take()) {
        applyFault(answer, placed, (reusable) => this.#options.signedUrl(record.path, reusable));
      }
    }
    await this.#send(record, answer, { response, signal: AbortSignal.any([gone.signal, this.#ended.signal]) });
  }

  async #send(
    record: RecordedRequest,
    answer: Answer,
    { response, signal }: { readonly response: ServerResponse; readonly signal: AbortSignal },
  ): Promise<void> {
    for (const pause of answer.pauses) {
      pause.reach();
      await untilReleased(pause, signal);
    }
    if (this.#options.latencyMs !== undefined) await delay(this.#options.latencyMs, undefined, { signal });
    if (answer.instead === 'silence') return;
    const { socket } = response;
    if (answer.instead === 'reset' || socket === null) {
      socket?.resetAndDestroy();
      return;
    }
    response.statusCode = answer.status;
    record.status = answer.status;
    for (const [name, value] of Object.entries(answer.headers)) {
      if (value !== undefined) response.setHeader(name, value);
    }
    if (answer.contentLength !== undefined) response.setHeader('Content-Length', answer.contentLength);
    if (record.method === 'HEAD' || answer.status === 304) {
      response.end();
      record.complete = true;
      return;
    }
    const whole = await this.#sendBody(record, answer, { response, signal });
    const promised = answer.contentLength ?? record.bytesSent;
    if (!whole || promised !== record.bytesSent) {
      socket.destroySoon();
      return;
    }
    response.end();
    record.complete = true;
  }

  // True when all bytes of the answer went out, false when it was cut.
  async #sendBody(
    record: RecordedRequest,
    answer: Answer,
    { response, signal }: { readonly response: ServerResponse; readonly signal: AbortSignal },
  ): Promise<boolean> {
    const throttles = [this.#options.throttle, this.#sockets.get(response.socket!)?.throttle].filter(
      (throttle) => throttle !== undefined,
    );
    const chunkBytes = Math.min(64 * 1024, ...throttles.map((throttle) => throttle.chunkBytes));
    const end = Math.min(answer.end, answer.start + (answer.cutAfterBytes ?? Number.POSITIVE_INFINITY));
    const stalls = answer.stalls.toSorted((one, other) => one.afterBytes - other.afterBytes);
    const borders = [...stalls.map((stall) => answer.start + stall.afterBytes), end];
    response.flushHeaders();
    let offset = answer.start;
    for (const [index, border] of borders.entries()) {
      for (const chunk of answer.source.read(offset, Math.min(border, end), chunkBytes)) {
        for (const throttle of throttles) await throttle.take(chunk.length, { signal });
        await write(response, chunk, signal);
        record.bytesSent += chunk.length;
        offset += chunk.length;
      }
      const stall = stalls[index];
      if (stall === undefined) continue;
      stall.fault.reach();
      await untilReleased(stall.fault, signal);
    }
    return end === answer.end;
  }
}

// Settles when the socket has taken the bytes, so that what is counted and cut is what was sent.
async function write(response: ServerResponse, chunk: Buffer, signal: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const abandon = (): void => reject(signal.reason as Error);
  signal.throwIfAborted();
  signal.addEventListener('abort', abandon, { once: true });
  response.write(chunk, (error) => (error ? reject(error) : resolve()));
  try {
    await promise;
  } finally {
    signal.removeEventListener('abort', abandon);
  }
}

async function untilReleased(placed: PlacedFault, signal: AbortSignal): Promise<void> {
  const aborted = Promise.withResolvers<never>();
  const abandon = (): void => aborted.reject(signal.reason as Error);
  signal.throwIfAborted();
  signal.addEventListener('abort', abandon, { once: true });
  try {
    await Promise.race([placed.released, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', abandon);
  }
}
