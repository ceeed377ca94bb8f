import { Socket } from 'node:net';
import type { MovedConnection } from './messages.ts';

/** The main thread's end of an encrypted connection that a front passes on. */
export class RelayedSocket extends Socket {
  readonly #returned: Int32Array | undefined;

  /** @throws Error where the connection is not one that is passed on */
  constructor({ fd, relayed }: MovedConnection) {
    super({ fd, allowHalfOpen: true });
    this.#returned = relayed && new Int32Array(relayed.returned);
    // Of the client, as if it were connected here.
    Object.defineProperty(this, 'remoteAddress', { value: relayed?.remoteAddress });
    Object.defineProperty(this, 'encrypted', { value: true });
  }

  /** Gives the connection back to the front, behind all that has been written. */
  giveBack(): void {
    if (this.#returned) Atomics.store(this.#returned, 0, 1);
    this.end();
  }
}
