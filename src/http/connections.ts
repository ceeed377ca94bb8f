import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Admission, Overload, Ticket } from './admission.ts';
import { overloadError } from './overload-error.ts';

/**
 * Requests of one connection that may wait for the one before them. Clients of registries do not send ahead; one that
 * sends more than this is cut.
 */
const maxQueued = 1_000;
/** With this many waiting requests, nothing more is read from the connection. */
const pauseAt = 16;
/** Connections past the limit that still get an answer (a refusal, or `/healthz`) at a time; others are closed at once. */
const maxRefusing = 64;
/** How long such a connection may take for its request, in milliseconds. */
const refusingMs = 5_000;

interface Asked {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
}

interface Guest {
  /** Bytes that had been read of it when it came. */
  readonly bytesRead: number;
  readonly giveBack: () => void;
}

interface Queue {
  readonly waiting: (Asked & { readonly ticket: Ticket })[];
  isPaused: boolean;
}

/**
 * The open connections, those that Node's own list lacks too: before a TLS handshake is over there is no request. Each
 * has one request answered at a time, in the order of arrival (RFC 9112, 9.3.2).
 */
export class Connections {
  readonly #handler: RequestListener;
  readonly #admission: Admission;
  readonly #latest = new Map<Socket, ServerResponse | undefined>();
  readonly #queues = new Map<Socket, Queue>();
  readonly #refusing = new Map<Socket, Overload>();
  /** Connections that go back where they come from after an answer. */
  readonly #guests = new Map<Socket, Guest>();
  #isDraining = false;

  constructor(handler: RequestListener, admission: Admission) {
    this.#handler = handler;
    this.#admission = admission;
  }

  /**
   * A connection has been accepted. Where there are too many, its first request is refused, unless it is for an operator:
   * a probe of `/healthz` that were refused would have a process restarted that only has much to do.
   * @returns whether there is room for it
   */
  accepted(socket: Socket): boolean {
    this.#track(socket);
    const overload = this.#admission.connected(socket);
    if (overload === undefined) return true;
    if (this.#refusing.size >= maxRefusing) {
      socket.destroy();
      return false;
    }
    this.#refusing.set(socket, overload);
    const timer = setTimeout(() => socket.destroy(), refusingMs);
    socket.once('close', () => {
      clearTimeout(timer);
      this.#refusing.delete(socket);
    });
    return false;
  }

  /** How many connections are open. */
  get count(): number {
    return this.#latest.size;
  }

  /** A connection has come with one request that was read before, and goes back after its answer, if nothing else comes. */
  hosts(socket: Socket, giveBack: () => void): void {
    this.#guests.set(socket, { bytesRead: socket.bytesRead, giveBack });
    socket.once('close', () => this.#guests.delete(socket));
  }

  /** A connection goes where it is accepted again. */
  leaves(socket: Socket): void {
    this.#admission.leaves(socket);
  }

  /** A TLS handshake on a connection that was accepted is over. */
  secured(socket: Socket): void {
    this.#track(socket);
  }

  /** A request has come: it is handled at once, or after those of its connection that came before it. */
  requested(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request;
    const queue = this.#queues.get(socket);
    if (queue) return this.#enqueue(queue, { request, response });
    const previous = this.#latest.get(socket);
    if (previous === undefined || previous.writableFinished || previous.destroyed) {
      return this.#handle({ request, response });
    }
    const begun: Queue = { waiting: [], isPaused: false };
    this.#queues.set(socket, begun);
    socket.once('close', () => {
      this.#queues.delete(socket);
      for (const { ticket } of begun.waiting.splice(0)) ticket[Symbol.dispose]();
    });
    this.#continueAfter(previous, socket, begun);
    this.#enqueue(begun, { request, response });
  }

  /** Whether an answer is under way on a connection. */
  isAnswering(socket: Duplex): boolean {
    const response = this.#latest.get(socket as Socket);
    return response !== undefined && !response.writableFinished && !response.destroyed;
  }

  /** From now on each answer is the last of its connection; one on which nothing has come is closed. */
  drain(): void {
    this.#isDraining = true;
    for (const [socket, response] of this.#latest) {
      if (response && !response.headersSent) response.shouldKeepAlive = false;
      // Bytes that a front has read of a connection count nowhere here: they wait in the socket, or are being answered.
      if (socket.bytesRead === 0 && socket.readableLength === 0 && response === undefined) socket.destroy();
    }
  }

  cut(): void {
    for (const socket of this.#latest.keys()) socket.destroy();
  }

  #track(socket: Socket): void {
    this.#latest.set(socket, undefined);
    socket.once('close', () => this.#latest.delete(socket));
  }

  #handle({ request, response }: Asked): void {
    if (this.#isDraining) response.shouldKeepAlive = false;
    this.#latest.set(request.socket, response);
    this.#watchGuest(request.socket, response);
    const overload = this.#refusing.get(request.socket);
    if (overload !== undefined) {
      response.shouldKeepAlive = false;
      if (request.url?.startsWith('/v2') === true) return refuse(response, overload);
    }
    this.#handler(request, response);
  }

  #watchGuest(socket: Socket, response: ServerResponse): void {
    const guest = this.#guests.get(socket);
    if (guest === undefined) return;
    this.#guests.delete(socket);
    response.once('close', () => {
      const isOpen = response.writableFinished && response.shouldKeepAlive && !socket.destroyed && !this.#isDraining;
      // Bytes of a further request that were read are here, and nowhere else.
      if (isOpen && socket.bytesRead === guest.bytesRead && !this.#queues.has(socket)) guest.giveBack();
    });
  }

  #enqueue(queue: Queue, asked: Asked): void {
    const { socket } = asked.request;
    const ticket = this.#admission.begin(socket);
    if (queue.waiting.length >= maxQueued || ticket.overload !== undefined) {
      ticket[Symbol.dispose]();
      this.#admission.refused('pipelining', socket);
      socket.destroy();
      return;
    }
    queue.waiting.push({ ...asked, ticket });
    if (queue.waiting.length < pauseAt || queue.isPaused) return;
    queue.isPaused = true;
    socket.pause();
  }

  #continueAfter(response: ServerResponse, socket: Socket, queue: Queue): void {
    response.once('close', () => {
      const next = queue.waiting.shift();
      next?.ticket[Symbol.dispose]();
      if (queue.isPaused && queue.waiting.length < pauseAt) {
        queue.isPaused = false;
        socket.resume();
      }
      if (next === undefined) {
        this.#queues.delete(socket);
        return;
      }
      if (socket.destroyed) return;
      this.#continueAfter(next.response, socket, queue);
      this.#handle(next);
    });
  }
}

function refuse(response: ServerResponse, overload: Overload): void {
  const error = overloadError(overload);
  const { status, headers } = error;
  const body = JSON.stringify(error.toBody());
  response.writeHead(status, { ...headers, 'Content-Type': 'application/json', 'Content-Length': body.length });
  response.end(body);
}
