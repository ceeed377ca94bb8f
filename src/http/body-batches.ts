import type { IncomingMessage } from 'node:http';
import { RegistryError } from '../oci/error.ts';

export interface BatchesOptions {
  /** So many bytes or a little more are given at a time, and as many are gathered meanwhile. */
  readonly batchBytes: number;
  /** A client that sends nothing for this long while it is waited for is disconnected, in milliseconds. */
  readonly idleMs: number;
}

/**
 * The body of a request, several pieces at a time, as Node has read them. The next batch is gathered while the caller
 * works on the last one; once that is full too, the client has to wait. The pieces belong to the caller.
 * Iterating throws RegistryError `client-idle`, and what Node does when the client leaves; what has arrived before is
 * given first. `return` may be called while a batch is waited for.
 */
export function batchesOf(request: IncomingMessage, options: BatchesOptions): AsyncIterable<readonly Buffer[]> {
  return { [Symbol.asyncIterator]: () => new Gathering(request, options) };
}

const over = { done: true, value: undefined } as const;

/** Reads by events: an iterator over the request would copy what has been read meanwhile, and take a turn for each piece. */
class Gathering implements AsyncIterator<readonly Buffer[], undefined> {
  readonly #request: IncomingMessage;
  readonly #options: BatchesOptions;
  readonly #idle: NodeJS.Timeout;
  #pieces: Buffer[] = [];
  #bytes = 0;
  #isOver = false;
  #failure: Error | undefined;
  #wake: (() => void) | undefined;

  constructor(request: IncomingMessage, options: BatchesOptions) {
    this.#request = request;
    this.#options = options;
    this.#idle = setTimeout(this.#idled, options.idleMs);
    request.on('data', this.#read).on('end', this.#ended).on('error', this.#failed).on('close', this.#closed);
    if (request.readableEnded) this.#ended();
    else if (request.destroyed) this.#closed();
  }

  async next(): Promise<IteratorResult<readonly Buffer[], undefined>> {
    if (this.#bytes < this.#options.batchBytes && !this.#isOver) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      this.#idle.refresh();
      this.#request.resume();
      await promise;
      this.#wake = undefined;
    }
    if (this.#bytes === 0) {
      this.#leave();
      if (this.#failure !== undefined) throw this.#failure;
      return over;
    }
    const value = this.#pieces;
    this.#pieces = [];
    this.#bytes = 0;
    if (!this.#isOver) this.#request.resume();
    return { done: false, value };
  }

  return(): Promise<typeof over> {
    this.#pieces = [];
    this.#bytes = 0;
    this.#leave();
    return Promise.resolve(over);
  }

  #leave(): void {
    clearTimeout(this.#idle);
    const request = this.#request;
    request.off('data', this.#read).off('end', this.#ended).off('error', this.#failed).off('close', this.#closed);
    // A handler that stops reading still has to answer on the connection.
    if (!this.#isOver) request.pause();
    this.#ended();
  }

  readonly #read = (piece: Buffer): void => {
    this.#pieces.push(piece);
    this.#bytes += piece.length;
    this.#idle.refresh();
    if (this.#bytes < this.#options.batchBytes) return;
    this.#request.pause();
    this.#wake?.();
  };

  readonly #ended = (): void => {
    this.#isOver = true;
    this.#wake?.();
  };

  readonly #failed = (error: Error): void => {
    this.#failure ??= error;
    this.#ended();
  };

  readonly #closed = (): void => {
    if (!this.#isOver) this.#failed(this.#request.errored ?? new Error('the client left before the end of its body'));
  };

  readonly #idled = (): void => {
    const { idleMs } = this.#options;
    // While a batch is worked on, the client owes nothing.
    if (this.#wake === undefined) this.#idle.refresh();
    else this.#request.destroy(new RegistryError('client-idle', `the client has sent nothing for ${idleMs} ms`));
  };
}
