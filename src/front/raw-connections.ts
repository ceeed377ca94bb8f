import type { Socket } from 'node:net';
import { LRUCache } from 'lru-cache';
import { AnswerTexts } from './answer-texts.ts';
import type { Exit } from './exit.ts';
import type { KeptAnswer } from './kept-answer.ts';
import { plainDescriptor } from './plain-descriptor.ts';
import { readHead } from './request-head.ts';
import { type ReadRequest, readRequest } from './request-key.ts';
import type { ShortWay } from './short-way.ts';
import type { SystemCalls } from './system-calls.ts';

/** A connection on which nothing has come for so long is the application's, in milliseconds. */
const firstMs = 1_000;
/** A connection idles for so long, in milliseconds: a second more than the answer says. */
const keepAliveMs = 76_000;
/** Characters of heads that are remembered: clients send the same ones again and again. */
const maxHeadCharacters = 2 * 1024 * 1024;
/** Longer heads are the application's. */
const maxHeadBytes = 8 * 1024;

const nothing = Buffer.alloc(0);

/** The bytes that were read from a connection that goes to the application. */
export interface Unanswered {
  readonly bytes: Buffer;
  /** The key of the request, where the bytes are the head of one plain request and nothing else. */
  readonly key: string | undefined;
}

export interface RawConnectionsOptions {
  readonly way: ShortWay;
  /** Absent: all leaves by the sockets. */
  readonly calls?: Pick<SystemCalls, 'send'> | undefined;
  /** Gives a connection to the application. */
  readonly handOver: (socket: Socket, read: Unanswered) => void;
}

/**
 * Reads plain requests straight from their connections and answers them out of what is kept. A connection goes to the
 * application with its first request that is anything else.
 */
export class RawConnections {
  readonly #options: RawConnectionsOptions;
  readonly #open = new Set<RawConnection>();
  readonly #heads = new LRUCache<string, ReadRequest>({
    maxSize: maxHeadCharacters,
    sizeCalculation: (_read, head) => head.length + 200,
  });
  readonly #texts = new AnswerTexts();
  #isDraining = false;

  constructor(options: RawConnectionsOptions) {
    this.#options = options;
  }

  get count(): number {
    return this.#open.size;
  }

  /**
   * Reads a connection from now on.
   * @param isNew false: it has had requests answered before, and idles
   */
  take(socket: Socket, { isNew = true }: { readonly isNew?: boolean } = {}): void {
    const { way, calls, handOver } = this.#options;
    const connection: RawConnection = new RawConnection(socket, {
      way,
      calls,
      texts: this.#texts,
      read: (text) => this.#read(text),
      left: (unanswered) => {
        this.#open.delete(connection);
        if (unanswered !== undefined) handOver(socket, unanswered);
      },
      isLast: () => this.#isDraining,
    });
    socket.setTimeout(isNew ? firstMs : keepAliveMs);
    this.#open.add(connection);
  }

  /** From now on each answer is the last of its connection; idle connections are closed. */
  drain(): void {
    this.#isDraining = true;
    for (const connection of this.#open) connection.closeIdle();
  }

  cut(): void {
    for (const connection of this.#open) connection.destroy();
  }

  #read(text: string): ReadRequest | undefined {
    const known = this.#heads.get(text);
    if (known !== undefined) return known;
    const head = readHead(text);
    const read = head && readRequest(head);
    if (read !== undefined) this.#heads.set(text, read);
    return read;
  }
}

interface Surroundings {
  readonly way: ShortWay;
  readonly calls: Pick<SystemCalls, 'send'> | undefined;
  readonly texts: AnswerTexts;
  readonly read: (text: string) => ReadRequest | undefined;
  /** The connection is not read here any more. @param unanswered where it is open: what has been read of it */
  readonly left: (unanswered: Unanswered | undefined) => void;
  /** Whether the answer under way is the last of its connection. */
  readonly isLast: () => boolean;
}

/** One connection, with one answer at a time. */
class RawConnection implements Exit {
  readonly socket: Socket;
  readonly #around: Surroundings;
  #isBusy = false;
  #hasEnded = false;
  /** Read while an answer was under way. */
  #pending: Buffer = nothing;
  #idle: (() => void) | undefined;
  #done: ((isComplete: boolean) => void) | undefined;
  readonly #handlers = {
    data: (chunk: Buffer): void => this.#took(chunk),
    end: (): void => {
      this.#hasEnded = true;
      if (!this.#isBusy) this.socket.end();
    },
    timeout: (): void => this.#timedOut(),
    // `close` says what it means.
    error: (): void => undefined,
    close: (): void => this.#around.left(undefined),
  };
  readonly #taken = (error?: Error | null): void => this.#finished(error === undefined || error === null);

  constructor(socket: Socket, around: Surroundings) {
    this.socket = socket;
    this.#around = around;
    for (const [name, handler] of Object.entries(this.#handlers)) socket.on(name, handler);
  }

  closeIdle(): void {
    if (!this.#isBusy) this.socket.destroy();
  }

  send(answer: KeptAnswer, headers: readonly string[], body: string | Uint8Array | undefined): void {
    const { texts } = this.#around;
    if (body === undefined || typeof body === 'string') {
      const rest = this.#sendAtOnce(texts.of(answer, headers, body), false);
      if (rest === undefined) this.#finished(true);
      else this.socket.write(rest, 'latin1', this.#taken);
      return;
    }
    this.socket.cork();
    this.socket.write(texts.of(answer, headers), 'latin1');
    this.socket.write(body, this.#taken);
    this.socket.uncork();
  }

  open(answer: KeptAnswer, headers: readonly string[]): void {
    const rest = this.#sendAtOnce(this.#around.texts.of(answer, headers), answer.length > 0);
    if (rest !== undefined) this.socket.write(rest, 'latin1');
  }

  write(bytes: Uint8Array, onTaken: (error?: Error | null) => void): void {
    this.socket.write(bytes, onTaken);
  }

  end(): void {
    this.#finished(true);
  }

  destroy(): void {
    this.socket.destroy();
  }

  onIdle(idleMs: number, call: () => void): void {
    this.#idle = call;
    this.socket.setTimeout(idleMs);
  }

  onDone(call: (isComplete: boolean) => void): void {
    this.#done = call;
  }

  /**
   * Gives bytes to the system past the socket, which costs half.
   * @param isPart more follows at once
   * @returns what the socket has to send; `undefined`: nothing
   */
  #sendAtOnce(bytes: string | Buffer, isPart: boolean): string | Buffer | undefined {
    const { calls } = this.#around;
    // Text is that of an answer that is not given often: to make bytes of it costs as much as the socket does.
    const fd = calls && typeof bytes !== 'string' ? plainDescriptor(this.socket) : undefined;
    if (typeof bytes === 'string' || fd === undefined) return bytes;
    const sent = calls!.send(fd, { of: bytes, isPart }) ?? 0;
    return sent === bytes.length ? undefined : bytes.subarray(sent);
  }

  #took(chunk: Buffer): void {
    if (this.#isBusy) {
      this.socket.pause();
      this.#pending = Buffer.concat([this.#pending, chunk]);
      return;
    }
    const { read, way, isLast } = this.#around;
    const request = chunk.length > maxHeadBytes ? undefined : read(chunk.toString('latin1'));
    this.#isBusy = true;
    if (request === undefined || isLast() || !way.answerRead(request, { exit: this, socket: this.socket })) {
      this.#leave(chunk, request?.key);
    }
  }

  #finished(isComplete: boolean): void {
    const done = this.#done;
    this.#done = undefined;
    this.#isBusy = false;
    done?.(isComplete);
    const { socket } = this;
    if (socket.destroyed) return;
    this.#idle = undefined;
    if (socket.timeout !== keepAliveMs) socket.setTimeout(keepAliveMs);
    if (this.#hasEnded || this.#around.isLast()) {
      socket.end();
      return;
    }
    if (this.#pending.length === 0) return;
    const pending = this.#pending;
    this.#pending = nothing;
    socket.resume();
    this.#took(pending);
  }

  #timedOut(): void {
    if (this.#idle) {
      if (this.socket.writableLength > 0) this.#idle();
    } else if (this.socket.timeout === firstMs) this.#leave(nothing);
    else if (!this.#isBusy) this.socket.destroy();
  }

  /** The application reads on, beginning with these bytes. */
  #leave(bytes: Buffer, key?: string): void {
    for (const [name, handler] of Object.entries(this.#handlers)) this.socket.removeListener(name, handler);
    this.socket.setTimeout(0);
    this.#around.left({ bytes, key });
  }
}
