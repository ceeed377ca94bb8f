import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { RegistryError } from '../oci/error.ts';
import { type Exit, ResponseExit } from './exit.ts';
import type { FileSender } from './file-sender.ts';
import type { KeptAnswer } from './kept-answer.ts';
import type { KeptAnswers } from './kept-answers.ts';
import type { OpenFile, OpenFiles } from './open-files.ts';
import { type ReadRequest, readRequest } from './request-key.ts';
import type { Room, Rooms } from './room.ts';

/** A request that was answered the short way, when its connection is done with it. */
export interface Served {
  readonly key: string;
  readonly answer: KeptAnswer;
  /** Whether it was decided for this request, and not given as before. */
  readonly isNew: boolean;
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
  /** Decides what needs no waiting; `undefined`: the application has to. Absent: it decides everything. */
  readonly decide?: (read: ReadRequest) => KeptAnswer | undefined;
  /** A client that takes nothing of what waits for it is cut after this, in milliseconds; read for each answer. */
  readonly clientIdleMs: () => number;
  /** Wall clock in milliseconds. */
  readonly now: () => number;
}

/** Answers requests from what is kept, or stored and at hand: no application, no promise. */
export class ShortWay {
  readonly #options: ShortWayOptions;
  readonly #keys = new WeakMap<IncomingMessage, string>();
  /** The headers of answers that say their age, as they are this second. */
  readonly #aged = new WeakMap<KeptAnswer, { readonly seconds: number; readonly headers: readonly string[] }>();

  constructor(options: ShortWayOptions) {
    this.#options = options;
  }

  /** Answers a request that Node has read, if there is an answer to give. @returns false: it has to be decided */
  answer(request: IncomingMessage, response: ServerResponse): boolean {
    const { method = '', url = '', rawHeaders, socket } = request;
    const read = readRequest({ method, url, rawHeaders });
    if (read === undefined) return false;
    if (this.answerRead(read, { exit: new ResponseExit(response), socket })) return true;
    this.#keys.set(request, read.key);
    return false;
  }

  /** Answers a request, if there is an answer to give. @returns false: it has to be decided, and nothing was sent */
  answerRead(read: ReadRequest, { exit, socket }: { exit: Exit; socket: Socket }): boolean {
    const { key, userAgent } = read;
    const { answers, decide } = this.#options;
    const kept = answers.get(key);
    const answer = kept ?? decide?.(read);
    if (answer === undefined) return false;
    const isNew = kept === undefined;
    if (isNew) answers.set(key, answer);
    return this.#give(new Sending({ exit, socket, userAgent, key, answer, isNew }));
  }

  /** The key under which the answer to a request may be kept; `undefined`: it has to be decided each time. */
  keyOf(request: IncomingMessage): string | undefined {
    return this.#keys.get(request);
  }

  #give(sending: Sending): boolean {
    const { answers, files, rooms } = this.#options;
    const { answer, key, socket } = sending;
    const { body, file } = answer;
    // The application refuses it, with an answer.
    if (!rooms.mayAnswer(socket)) return false;
    const open = file && files.open(file);
    if (file !== undefined && open === undefined) {
      answers.delete(key);
      return false;
    }
    if (body.kind === 'none' || body.kind === 'text') {
      open?.[Symbol.dispose]();
      this.#sendSmall(sending, body.kind === 'text' ? body.text : undefined);
      return true;
    }
    sending.room = rooms.begin(socket, body.kind === 'bytes' ? body.bytes.length : 0);
    if (sending.room !== undefined && body.kind === 'bytes') this.#sendLarge(sending, body.bytes);
    else if (sending.room !== undefined && body.kind === 'file') this.#sendFile(sending, { ...body, open: open! });
    else open?.[Symbol.dispose]();
    return sending.room !== undefined;
  }

  #sendSmall(sending: Sending, text: string | undefined): void {
    const { exit, answer, socket } = sending;
    exit.send(answer, this.#headersOf(answer), text);
    // Nearly always the system has taken all of it by now.
    if (exit.socket?.writableLength === 0) {
      this.#served(sending, { sentBytes: answer.length, isComplete: true });
      return;
    }
    sending.room = this.#options.rooms.begin(socket, 0);
    this.#whenDone(sending);
  }

  #sendLarge(sending: Sending, bytes: Uint8Array): void {
    sending.exit.send(sending.answer, this.#headersOf(sending.answer), bytes);
    this.#cutIdle(sending);
    this.#whenDone(sending);
  }

  #sendFile(sending: Sending, { start, end, open }: { start: number; end: number; open: OpenFile }): void {
    const { exit, answer, key, room } = sending;
    const { answers, reading, sender } = this.#options;
    const inUse = answer.digest === undefined ? undefined : reading(answer.digest);
    exit.open(answer, this.#headersOf(answer));
    let isDone = false;
    const transfer = {
      exit,
      fd: open.fd,
      room: room!,
      position: start,
      end,
      done: (isComplete: boolean, error?: unknown): void => {
        isDone = true;
        open[Symbol.dispose]();
        inUse?.[Symbol.dispose]();
        if (error !== undefined) {
          sending.failure = error;
          // The application finds another source as long as no header is out.
          answers.delete(key);
        }
        this.#served(sending, { sentBytes: transfer.position - start, isComplete });
      },
    };
    sender.start(transfer);
    // Often the system has taken all of it by now.
    if (!isDone) this.#cutIdle(sending);
  }

  #headersOf(answer: KeptAnswer): readonly string[] {
    const { headers, age } = answer;
    if (age === undefined) return headers;
    const seconds = Math.max(0, Math.floor((this.#options.now() - age.fromMs) / 1000));
    const known = this.#aged.get(answer);
    if (known?.seconds === seconds) return known.headers;
    const aged = headers.with(age.at, String(seconds));
    this.#aged.set(answer, { seconds, headers: aged });
    return aged;
  }

  /** Cuts the connection once the client has taken nothing for too long. */
  #cutIdle(sending: Sending): void {
    const clientIdleMs = this.#options.clientIdleMs();
    sending.exit.onIdle(clientIdleMs, () => {
      sending.failure = new RegistryError('client-idle', `the client has taken nothing for ${clientIdleMs} ms`);
      sending.exit.destroy();
    });
  }

  #whenDone(sending: Sending): void {
    const { exit, answer } = sending;
    exit.onDone((isComplete) => this.#served(sending, { sentBytes: answer.length, isComplete }));
  }

  #served(sending: Sending, sent: Pick<Served, 'sentBytes' | 'isComplete'>): void {
    const { key, answer, isNew, socket, userAgent, failure, startedAtMs, room } = sending;
    room?.[Symbol.dispose]();
    this.#options.onServed({
      key,
      answer,
      isNew,
      ...sent,
      failure,
      durationMs: performance.now() - startedAtMs,
      userAgent,
      client: this.#options.rooms.addressOf(socket),
    });
  }
}

/** An answer on its way. */
class Sending {
  readonly exit: Exit;
  readonly socket: Socket;
  readonly userAgent: string | undefined;
  readonly key: string;
  readonly answer: KeptAnswer;
  readonly isNew: boolean;
  readonly startedAtMs = performance.now();
  room: Room | undefined;
  /** Why it did not leave whole; `undefined` where the client has left. */
  failure: unknown;

  constructor(asked: Pick<Sending, 'exit' | 'socket' | 'userAgent' | 'key' | 'answer' | 'isNew'>) {
    this.exit = asked.exit;
    this.socket = asked.socket;
    this.userAgent = asked.userAgent;
    this.key = asked.key;
    this.answer = asked.answer;
    this.isNew = asked.isNew;
  }
}
