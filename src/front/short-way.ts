import type { IncomingMessage, ServerResponse } from 'node:http';
import { RegistryError } from '../oci/error.ts';
import type { FileSender } from './file-sender.ts';
import type { KeptAnswer } from './kept-answer.ts';
import type { KeptAnswers } from './kept-answers.ts';
import type { OpenFile, OpenFiles } from './open-files.ts';
import { readRequest } from './request-key.ts';
import type { Room, Rooms } from './room.ts';

/** A request that was answered the short way, when its connection is done with it. */
export interface Served {
  readonly answer: KeptAnswer;
  /** Bytes of the body handed to the system. */
  readonly sentBytes: number;
  /** Whether the whole answer left this process. */
  readonly isComplete: boolean;
  /** Why it did not; absent where the client has left. */
  readonly failure: unknown;
  readonly durationMs: number;
  readonly userAgent: string | undefined;
  readonly client: string;
}

export interface ShortWayOptions {
  readonly answers: KeptAnswers;
  readonly files: OpenFiles;
  readonly sender: FileSender;
  readonly rooms: Rooms;
  /** A blob is read from its file until this is disposed. */
  readonly reading: (digest: string) => Disposable;
  readonly onServed: (served: Served) => void;
  /** A client that takes nothing of what waits for it is cut after this, in milliseconds; read for each answer. */
  readonly clientIdleMs: () => number;
  /** Wall clock in milliseconds. */
  readonly now: () => number;
}

/** Answers requests out of what is kept: no application, no promise, no catalog. */
export class ShortWay {
  readonly #options: ShortWayOptions;
  readonly #keys = new WeakMap<IncomingMessage, string>();

  constructor(options: ShortWayOptions) {
    this.#options = options;
  }

  /** Answers a request, if there is an answer to give. @returns false: it has to be decided */
  answer(request: IncomingMessage, response: ServerResponse): boolean {
    const read = readRequest(request);
    if (read === undefined) return false;
    const { answers } = this.#options;
    const { key, userAgent } = read;
    const answer = answers.get(key);
    if (answer !== undefined && this.#give(new Sending({ request, response, userAgent, key, answer }))) return true;
    this.#keys.set(request, key);
    return false;
  }

  /** The key under which the answer to a request may be kept; `undefined`: it has to be decided each time. */
  keyOf(request: IncomingMessage): string | undefined {
    return this.#keys.get(request);
  }

  #give(sending: Sending): boolean {
    const { answers, files, rooms } = this.#options;
    const { answer, key, request } = sending;
    const { body, file } = answer;
    // The application refuses it, with an answer.
    if (!rooms.mayAnswer(request.socket)) return false;
    const open = file && files.open(file);
    if (file !== undefined && open === undefined) {
      answers.delete(key);
      return false;
    }
    if (body.kind === 'none' || body.kind === 'text') {
      open?.[Symbol.dispose]();
      this.#sendSmall(sending);
      return true;
    }
    sending.room = rooms.begin(request.socket, body.kind === 'bytes' ? body.bytes.length : 0);
    if (sending.room !== undefined && body.kind === 'bytes') this.#sendLarge(sending, body.bytes);
    else if (sending.room !== undefined && body.kind === 'file') this.#sendFile(sending, { ...body, open: open! });
    else open?.[Symbol.dispose]();
    return sending.room !== undefined;
  }

  #sendSmall(sending: Sending): void {
    const { response, answer, request } = sending;
    this.#writeHead(sending);
    if (answer.body.kind === 'text') response.end(answer.body.text, 'latin1');
    else response.end();
    // Nearly always the system has taken all of it by now.
    if (response.socket?.writableLength === 0) {
      this.#served(sending, { sentBytes: answer.length, isComplete: true });
      return;
    }
    sending.room = this.#options.rooms.begin(request.socket, 0);
    this.#whenClosed(sending);
  }

  #sendLarge(sending: Sending, bytes: Uint8Array): void {
    this.#writeHead(sending);
    sending.response.end(bytes);
    this.#cutIdle(sending);
    this.#whenClosed(sending);
  }

  #sendFile(sending: Sending, { start, end, open }: { start: number; end: number; open: OpenFile }): void {
    const { response, answer, key, room } = sending;
    const { answers, reading, sender } = this.#options;
    const inUse = reading(answer.digest);
    this.#writeHead(sending);
    response.flushHeaders();
    this.#cutIdle(sending);
    const transfer = {
      response,
      fd: open.fd,
      room: room!,
      position: start,
      end,
      done: (isComplete: boolean, error?: unknown): void => {
        open[Symbol.dispose]();
        inUse[Symbol.dispose]();
        if (error !== undefined) {
          sending.failure = error;
          // The application finds another source as long as no header is out.
          answers.delete(key);
        }
        this.#served(sending, { sentBytes: transfer.position - start, isComplete });
      },
    };
    sender.start(transfer);
  }

  #writeHead({ response, answer }: Sending): void {
    const { status, headers, age } = answer;
    if (age === undefined) {
      response.writeHead(status, headers as string[]);
      return;
    }
    const seconds = Math.max(0, Math.floor((this.#options.now() - age.fromMs) / 1000));
    response.writeHead(status, headers.with(age.at, String(seconds)));
  }

  /** Cuts the connection once the client has taken nothing for too long. */
  #cutIdle(sending: Sending): void {
    const { response } = sending;
    const clientIdleMs = this.#options.clientIdleMs();
    // Every write, and every byte of it that the system accepts, restarts the timer.
    response.setTimeout(clientIdleMs, () => {
      if (response.socket === null || response.socket.writableLength === 0) return;
      sending.failure = new RegistryError('client-idle', `the client has taken nothing for ${clientIdleMs} ms`);
      response.destroy();
    });
  }

  #whenClosed(sending: Sending): void {
    const { response, answer } = sending;
    const ended = (): void =>
      this.#served(sending, { sentBytes: answer.length, isComplete: response.writableFinished });
    if (response.destroyed || response.writableFinished) ended();
    else response.once('close', ended);
  }

  #served(sending: Sending, sent: Pick<Served, 'sentBytes' | 'isComplete'>): void {
    const { answer, request, userAgent, failure, startedAtMs, room } = sending;
    room?.[Symbol.dispose]();
    this.#options.onServed({
      answer,
      ...sent,
      failure,
      durationMs: performance.now() - startedAtMs,
      userAgent,
      client: this.#options.rooms.addressOf(request.socket),
    });
  }
}

/** An answer on its way. */
class Sending {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly userAgent: string | undefined;
  readonly key: string;
  readonly answer: KeptAnswer;
  readonly startedAtMs = performance.now();
  room: Room | undefined;
  /** Why it did not leave whole; `undefined` where the client has left. */
  failure: unknown;

  constructor(asked: Pick<Sending, 'request' | 'response' | 'userAgent' | 'key' | 'answer'>) {
    this.request = asked.request;
    this.response = asked.response;
    this.userAgent = asked.userAgent;
    this.key = asked.key;
    this.answer = asked.answer;
  }
}
