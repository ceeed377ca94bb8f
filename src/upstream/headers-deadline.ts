import type { ClientRequest } from 'node:http';

/** The headers took longer than allowed. */
export class HeadersTimeoutError extends Error {
  override readonly name = 'HeadersTimeoutError';
}

interface Destroyable {
  destroy(error: Error): unknown;
}

/** The time until the last headers, over all redirects; a wait for a free connection to our own limit is not counted. */
export class HeadersDeadline {
  readonly #totalMs: number;
  #leftMs: number;
  #waitedMs = 0;
  #since = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(totalMs: number) {
    this.#totalMs = totalMs;
    this.#leftMs = totalMs;
  }

  /** How long others have been waited for so far, in milliseconds; right while it stands still. */
  get waitedMs(): number {
    return this.#waitedMs;
  }

  /** Runs from now on, or from when the request has a connection to go out on; ends the stream when it is over. */
  watch(request: ClientRequest, stream: Destroyable): void {
    const start = (): void => {
      this.#since = performance.now();
      this.#timer = setTimeout(() => {
        stream.destroy(new HeadersTimeoutError(`no headers within ${this.#totalMs} ms`));
      }, this.#leftMs);
    };
    const { agent } = request as ClientRequest & { agent: { requests: Record<string, ClientRequest[]> } };
    const queued = Object.values(agent.requests).some((requests) => requests.includes(request));
    if (queued) request.once('socket', start);
    else start();
  }

  /** Stands still between two requests. */
  pause(): void {
    if (this.#timer === undefined) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const passedMs = performance.now() - this.#since;
    this.#waitedMs += passedMs;
    this.#leftMs = Math.max(1, this.#leftMs - passedMs);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}
