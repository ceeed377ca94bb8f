import { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { MovedConnection } from './messages.ts';
import type { Unanswered } from './raw-connections.ts';
import type { SystemCalls } from './system-calls.ts';

/** Bytes of further requests that wait for the answer under way; then no more are read. */
const maxPendingBytes = 64 * 1024;

/** As the main thread answers where it has no file left to open. */
const outOfFiles =
  'HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 0\r\n\r\n';

export interface RelaysOptions {
  readonly calls: Pick<SystemCalls, 'pair'>;
  /** Gives the other end of a relay to the main thread. */
  readonly give: (moved: MovedConnection) => void;
  /** A connection is read here again, beginning with what has been unshifted. */
  readonly takeBack: (socket: TLSSocket) => void;
}

/**
 * Encrypted connections of which the main thread decides requests. Their keys are here, so that the descriptor alone is of no
 * use to it: it gets one end of a pair of streams, and what it reads and writes there is decrypted and encrypted here.
 */
export class Relays {
  readonly #options: RelaysOptions;
  readonly #open = new Set<TLSSocket>();

  constructor(options: RelaysOptions) {
    this.#options = options;
  }

  get count(): number {
    return this.#open.size;
  }

  /** Has the main thread go on with a connection; it comes back after one plain request, and stays there otherwise. */
  begin(socket: TLSSocket, { bytes, key }: Unanswered): void {
    const { calls, give } = this.#options;
    if (socket.destroyed) return;
    let descriptors: readonly [number, number];
    try {
      descriptors = calls.pair();
    } catch {
      socket.end(outOfFiles);
      return;
    }
    const [here, there] = descriptors;
    const returned = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
    this.#open.add(socket);
    const relay = new Relay(socket, {
      stream: new Socket({ fd: here, allowHalfOpen: true }),
      isOneRequest: key !== undefined,
    });
    relay.onEnd = (isOpen) => {
      this.#open.delete(socket);
      if (isOpen && Atomics.load(new Int32Array(returned), 0) === 1) this.#options.takeBack(socket);
      else socket.destroySoon();
    };
    const { remoteAddress } = socket;
    give({ fd: there, bytes: new Uint8Array(bytes), key, relayed: { remoteAddress, returned } });
  }

  cut(): void {
    for (const socket of this.#open) socket.destroy();
  }
}

/** A relay between a connection and the main thread. */
class Relay {
  readonly #socket: TLSSocket;
  readonly #stream: Socket;
  readonly #isOneRequest: boolean;
  /** Read while the answer was under way: the main thread does not get it, since the connection comes back with it. */
  readonly #pending: Buffer[] = [];
  #pendingBytes = 0;
  #hasEnded = false;
  #isOver = false;
  /** @param isOpen whether further requests may come */
  onEnd: (isOpen: boolean) => void = () => undefined;
  readonly #handlers = {
    data: (chunk: Buffer): void => {
      this.#pending.push(chunk);
      this.#pendingBytes += chunk.length;
      if (this.#pendingBytes >= maxPendingBytes) this.#socket.pause();
    },
    end: (): void => {
      this.#hasEnded = true;
    },
    // `close` follows, and ends the relay.
    error: (): void => undefined,
    // The main thread sees that the client has left.
    close: (): void => void this.#stream.destroy(),
  };

  constructor(socket: TLSSocket, { stream, isOneRequest }: { stream: Socket; isOneRequest: boolean }) {
    this.#socket = socket;
    this.#stream = stream;
    this.#isOneRequest = isOneRequest;
    const { data, ...others } = this.#handlers;
    for (const [name, handler] of Object.entries(others)) socket.on(name, handler);
    if (isOneRequest) socket.on('data', data);
    else socket.pipe(stream);
    stream.on('error', () => undefined);
    stream.pipe(socket, { end: false });
    stream.once('close', () => this.#finished());
    stream.once('end', () => {
      this.#finished();
      stream.destroy();
    });
  }

  #finished(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    const socket = this.#socket;
    const isOpen = this.#isOneRequest && !this.#hasEnded && !socket.destroyed;
    if (!isOpen) return this.onEnd(false);
    socket.pause();
    for (const [name, handler] of Object.entries(this.#handlers)) socket.removeListener(name, handler);
    this.#stream.unpipe(socket);
    if (this.#pendingBytes > 0) socket.unshift(Buffer.concat(this.#pending));
    this.onEnd(true);
  }
}
