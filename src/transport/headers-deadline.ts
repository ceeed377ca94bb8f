import type { ClientRequest } from 'node:http';
import { afterReading } from '../waiting/after-reading.ts';

/** A connection or the headers took longer than allowed. */
export class ExchangeTimeoutError extends Error {
  override readonly name = 'ExchangeTimeoutError';
}

export interface HeadersDeadlineOptions {
  /** For each of: resolving the name, connecting, the TLS handshake; in milliseconds. */
  readonly connectMs: number;
  /** From the request's turn to the last headers, over all requests that are watched, in milliseconds. */
  readonly headersMs: number;
  /** Whether each sign of life (a connection, the request sent, an informational answer) starts `headersMs` again. */
  readonly isProlonged?: boolean;
}

/**
 * The time until the last headers of a chain of requests. A wait for a free connection to our own limit is not counted.
 */
export class HeadersDeadline implements Disposable {
  readonly #options: HeadersDeadlineOptions;
  #leftMs: number;
  #waitedMs = 0;
  #isConnected = false;
  #sinceMs = 0;
  #headersTimer: NodeJS.Timeout | undefined;
  #connectTimer: NodeJS.Timeout | undefined;

  constructor(options: HeadersDeadlineOptions) {
    this.#options = options;
    this.#leftMs = options.headersMs;
  }

  /** Whether the last request that was watched had a connection to go out on. */
  get isConnected(): boolean {
    return this.#isConnected;
  }

  /** How long the other side has been waited for so far, in milliseconds; exact while the deadline is paused. */
  get waitedMs(): number {
    return this.#waitedMs;
  }

  /** Runs from now on, or from when the request has a connection to go out on; destroys the request when it is over. */
  watch(request: ClientRequest): void {
    const start = (): void => {
      this.#sinceMs = performance.now();
      this.#arm(request, this.#leftMs);
    };
    if (isQueued(request)) request.once('socket', start);
    else start();
    this.#watchConnection(request);
    if (this.#options.isProlonged !== true) return;
    const prolong = (): void => {
      if (this.#headersTimer !== undefined) this.#arm(request, this.#options.headersMs);
    };
    request.once('finish', prolong);
    request.on('information', prolong);
    request.once('socket', (socket) => {
      if (socket.connecting) socket.once('connect', prolong);
      else prolong();
    });
  }

  /** Stops counting, between two requests. */
  pause(): void {
    clearTimeout(this.#connectTimer);
    this.#connectTimer = undefined;
    if (this.#headersTimer === undefined) return;
    clearTimeout(this.#headersTimer);
    this.#headersTimer = undefined;
    const passedMs = performance.now() - this.#sinceMs;
    this.#waitedMs += passedMs;
    this.#leftMs = Math.max(1, this.#leftMs - passedMs);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#headersTimer);
    clearTimeout(this.#connectTimer);
    this.#headersTimer = undefined;
    this.#connectTimer = undefined;
  }

  #arm(request: ClientRequest, ms: number): void {
    clearTimeout(this.#headersTimer);
    const timer = setTimeout(() => {
      afterReading(() => {
        // The headers may have come by now, or another sign of life.
        if (this.#headersTimer !== timer) return;
        request.destroy(new ExchangeTimeoutError(`no headers within ${this.#options.headersMs} ms`));
      });
    }, ms);
    this.#headersTimer = timer;
  }

  #watchConnection(request: ClientRequest): void {
    const { connectMs } = this.#options;
    this.#isConnected = false;
    request.once('socket', (socket) => {
      const done = (): void => {
        clearTimeout(this.#connectTimer);
        this.#connectTimer = undefined;
      };
      const connected = (): void => {
        done();
        this.#isConnected = true;
      };
      const step = (what: string): void => {
        done();
        const timer = setTimeout(() => {
          afterReading(() => {
            if (this.#connectTimer !== timer) return;
            request.destroy(new ExchangeTimeoutError(`no ${what} within ${connectMs} ms`));
          });
        }, connectMs);
        this.#connectTimer = timer;
      };
      if (!socket.connecting) {
        connected();
        return;
      }
      step('address');
      socket.once('lookup', () => step('connection'));
      socket.once('connect', () => ('encrypted' in socket ? step('TLS session') : connected()));
      socket.once('secureConnect', connected);
      socket.once('close', done);
    });
  }
}

function isQueued(request: ClientRequest): boolean {
  const { agent } = request as ClientRequest & { agent?: { requests: Record<string, ClientRequest[]> } };
  return Object.values(agent?.requests ?? {}).some((requests) => requests.includes(request));
}
