import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { KeptAnswer } from './kept-answer.ts';

/** Where an answer leaves. */
export interface Exit {
  /** `null`: it is gone. */
  readonly socket: Socket | null;
  /** Sends a whole answer. @param headers its headers as they are now */
  send(answer: KeptAnswer, headers: readonly string[], body: string | Uint8Array | undefined): void;
  /** Sends the headers of an answer; its body follows. */
  open(answer: KeptAnswer, headers: readonly string[]): void;
  /** Sends bytes of the body. @param onTaken called when the system has them, or never will */
  write(bytes: Uint8Array, onTaken: (error?: Error | null) => void): void;
  /** The body is whole. */
  end(): void;
  /** Cuts the connection. */
  destroy(): void;
  /** Calls back when the client has taken nothing of what waits for it for so long; until the answer has ended. */
  onIdle(idleMs: number, call: () => void): void;
  /** Calls back when the answer has left, or never will. */
  onDone(call: (isComplete: boolean) => void): void;
}

/** The exit of a request that Node has read. */
export class ResponseExit implements Exit {
  readonly #response: ServerResponse;

  constructor(response: ServerResponse) {
    this.#response = response;
  }

  get socket(): Socket | null {
    return this.#response.socket;
  }

  send({ status }: KeptAnswer, headers: readonly string[], body: string | Uint8Array | undefined): void {
    this.#response.writeHead(status, headers as string[]);
    if (typeof body === 'string') this.#response.end(body, 'latin1');
    else if (body) this.#response.end(body);
    else this.#response.end();
  }

  open({ status }: KeptAnswer, headers: readonly string[]): void {
    this.#response.writeHead(status, headers as string[]);
    this.#response.flushHeaders();
  }

  write(bytes: Uint8Array, onTaken: (error?: Error | null) => void): void {
    this.#response.write(bytes, onTaken);
  }

  end(): void {
    this.#response.end();
  }

  destroy(): void {
    this.#response.destroy();
  }

  onIdle(idleMs: number, call: () => void): void {
    // Every write, and every byte of it that the system accepts, restarts the timer.
    this.#response.setTimeout(idleMs, () => {
      const { socket } = this.#response;
      if (socket !== null && socket.writableLength > 0) call();
    });
  }

  onDone(call: (isComplete: boolean) => void): void {
    const response = this.#response;
    if (response.destroyed || response.writableFinished) call(response.writableFinished);
    else response.once('close', () => call(response.writableFinished));
  }
}
