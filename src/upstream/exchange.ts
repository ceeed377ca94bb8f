import type { ClientRequest, IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import type { HeadersDeadline } from './headers-deadline.ts';
import { codeOf, originOf } from './origin-error.ts';

/** A request under way, until its headers are there. */
export class Exchange {
  readonly stream: Duplex;
  readonly response: Promise<IncomingMessage>;
  #request: ClientRequest | undefined;

  constructor(stream: Duplex, deadline: HeadersDeadline) {
    this.stream = stream;
    this.response = new Promise((resolve, reject) => {
      stream.once('response', resolve);
      // Stays for the stream's life: an error while nobody reads is seen by whoever reads next.
      stream.on('error', reject);
      stream.once('close', () => reject(new Error('the connection was closed')));
    });
    stream.once('request', (request: ClientRequest) => {
      this.#request = request;
      deadline.watch(request, stream);
    });
    stream.once('response', () => deadline.pause());
  }

  /** Whether the request failed because the server had just closed the kept connection it was sent on. */
  wasStale(error: unknown): boolean {
    const code = codeOf(originOf(error)) ?? codeOf(error);
    return this.#request?.reusedSocket === true && (code === 'ECONNRESET' || code === 'EPIPE');
  }
}
