import type { Socket } from 'node:net';
import type { LoadSeat } from '../front/loads.ts';
import type { MemoryBudget } from '../memory/memory-budget.ts';
import { clientAddress, clientKey } from './client-address.ts';

/** The limit that was reached when something was refused: a closed set, a label of metrics. */
export type Overload =
  | 'connections'
  | 'client_connections'
  | 'requests'
  | 'client_requests'
  | 'memory'
  | 'client_memory'
  | 'pipelining';

/** The walls between clients; read each time, since the configuration can be replaced while the mirror runs. */
export interface AdmissionLimits {
  /** Connections open at a time: in all, and of one client address. */
  readonly connections: number;
  readonly connectionsPerClient: number;
  /** Requests of the registry API being answered at a time: in all, and of one client address. */
  readonly requests: number;
  readonly requestsPerClient: number;
  /** Bytes of memory that the answers to one client address may take. */
  readonly memoryPerClientBytes: number;
}

export interface AdmissionOptions {
  readonly limits: AdmissionLimits;
  readonly memory: MemoryBudget;
  /** Where other threads that share `connections` and `requests` say what they do; absent: there are none. */
  readonly seat?: LoadSeat | undefined;
  /** Called for each connection, request or answer that is refused. */
  readonly onRefused: (reason: Overload, client: string) => void;
}

/** The load of one client address, or of all of them together. */
interface Usage {
  connections: number;
  requests: number;
  waitingBytes: number;
}

interface Client extends Usage {
  readonly key: string;
  readonly address: string;
  /** It had nothing any more, and is not counted again. */
  isForgotten: boolean;
}

/** How much the mirror is doing for its clients now. */
export interface Load {
  readonly connections: number;
  readonly requests: number;
  /** Client addresses that have a connection. */
  readonly clients: number;
  /** Bytes of memory that answers take until clients have them. */
  readonly waitingBytes: number;
}

/** The memory for a request, its connection and its answer's headers, without the body, in bytes. */
const requestBytes = 16 * 1024;

/**
 * Counts what clients take of this process and refuses what goes past the limits, so that neither one client nor all of
 * them together use up connections or memory that others need.
 */
export class Admission {
  readonly #options: AdmissionOptions;
  readonly #clients = new Map<string, Client>();
  /** Found by connection, an address need not be read for each request. */
  readonly #bySocket = new WeakMap<Socket, { readonly client: Client; readonly address: string }>();
  /** Functions that end the count of a connection before it is closed. */
  readonly #ends = new WeakMap<Socket, () => void>();
  readonly #all: Usage = { connections: 0, requests: 0, waitingBytes: 0 };

  constructor(options: AdmissionOptions) {
    this.#options = options;
  }

  /** The load of all threads; `clients`: of this one. */
  load(): Load {
    const { connections, requests, waitingBytes } = this.#all;
    const { seat } = this.#options;
    return {
      connections: connections + (seat?.otherConnections ?? 0),
      requests: requests + (seat?.otherRequests ?? 0),
      waitingBytes: waitingBytes + (seat?.otherMemoryBytes ?? 0),
      clients: this.#clients.size,
    };
  }

  /**
   * Counts a new connection until it is closed.
   * @returns why there is no room for it, `undefined` where there is; it is counted in any case
   */
  connected(socket: Socket): Overload | undefined {
    const client = this.#clientOf(socket);
    const all = this.#all;
    const { seat, limits } = this.#options;
    const { connections, connectionsPerClient } = limits;
    let overload: Overload | undefined;
    if (client.connections >= connectionsPerClient) overload = 'client_connections';
    else if (all.connections + (seat?.otherConnections ?? 0) >= connections) overload = 'connections';
    for (const usage of [client, all]) usage.connections += 1;
    seat?.reportConnections(all.connections);
    let isCounted = true;
    const end = (): void => {
      if (!isCounted) return;
      isCounted = false;
      for (const usage of [client, all]) usage.connections -= 1;
      seat?.reportConnections(all.connections);
      this.#forgetIdle(client);
    };
    this.#ends.set(socket, end);
    socket.once('close', end);
    if (overload !== undefined) this.#options.onRefused(overload, client.address);
    return overload;
  }

  /** A connection goes to another thread, which counts it from now on. */
  leaves(socket: Socket): void {
    this.#ends.get(socket)?.();
  }

  /** Begins to count a request. The caller disposes the ticket when the last byte of the answer has left. */
  begin(socket: Socket): Ticket {
    const client = this.#clientOf(socket);
    const ended = (): void => this.#forgetIdle(client);
    return new Ticket(this.#options, { client, all: this.#all, ended });
  }

  /** Says that something of a client was refused. */
  refused(reason: Overload, socket: Socket): void {
    this.#options.onRefused(reason, clientAddress(socket));
  }

  /** Whether the walls have room for one more request and so many bytes. Refuses nothing. */
  hasRoom(socket: Socket, bytes: number): boolean {
    const client = this.#clientOf(socket);
    const { limits, memory, seat } = this.#options;
    return (
      client.requests < limits.requestsPerClient &&
      this.#all.requests + (seat?.otherRequests ?? 0) < limits.requests &&
      client.waitingBytes + requestBytes + bytes <= limits.memoryPerClientBytes &&
      memory.usedBytes + requestBytes + bytes <= memory.limitBytes
    );
  }

  /** The address of the other end, also after the connection is closed. */
  addressOf(socket: Socket): string {
    this.#clientOf(socket);
    return this.#bySocket.get(socket)?.address ?? clientAddress(socket);
  }

  #clientOf(socket: Socket): Client {
    const known = this.#bySocket.get(socket);
    if (known !== undefined && !known.client.isForgotten) return known.client;
    const address = clientAddress(socket);
    const key = clientKey(address);
    let client = this.#clients.get(key);
    if (client === undefined) {
      client = { key, address, connections: 0, requests: 0, waitingBytes: 0, isForgotten: false };
      this.#clients.set(key, client);
    }
    this.#bySocket.set(socket, { client, address });
    return client;
  }

  #forgetIdle(client: Client): void {
    if (client.connections > 0 || client.requests > 0 || client.isForgotten) return;
    client.isForgotten = true;
    this.#clients.delete(client.key);
  }
}

/** Reading in larger pieces costs less per byte; each transfer keeps one piece for as long as its client takes. */
const pieceSizes = [512, 128, 32, 16].map((kibibytes) => kibibytes * 1024);

/** The room that one request has. Disposing gives all of it back. */
export class Ticket implements Disposable {
  readonly #options: AdmissionOptions;
  readonly #parts: { readonly client: Client; readonly all: Usage; readonly ended: () => void };
  /** Called when it ends. */
  onEnd: (() => void) | undefined;
  #overload: Overload | undefined;
  #heldBytes = 0;
  #isOver = false;

  constructor(options: AdmissionOptions, parts: { client: Client; all: Usage; ended: () => void }) {
    this.#options = options;
    this.#parts = parts;
    const { client, all } = parts;
    const { requests, requestsPerClient } = options.limits;
    if (client.requests >= requestsPerClient) this.#refuse('client_requests');
    else if (all.requests + (options.seat?.otherRequests ?? 0) >= requests) this.#refuse('requests');
    else this.take(requestBytes);
    client.requests += 1;
    all.requests += 1;
    options.seat?.reportRequests(all.requests);
  }

  /** The limit that was reached when the request, or a part of its answer, was refused. */
  get overload(): Overload | undefined {
    return this.#overload;
  }

  /** Takes memory for the answer. @returns whether there was room; if not, {@link overload} says what was used up */
  take(bytes: number): boolean {
    if (this.#isOver) return true;
    const { client } = this.#parts;
    const { limits, memory } = this.#options;
    if (client.waitingBytes + bytes > limits.memoryPerClientBytes) return this.#refuse('client_memory');
    if (!memory.tryAdd(bytes)) return this.#refuse('memory');
    this.#count(bytes);
    return true;
  }

  /** Counts memory that the answer has in any case. */
  charge(bytes: number): void {
    if (this.#isOver) return;
    this.#options.memory.add(bytes);
    this.#count(bytes);
  }

  #count(bytes: number): void {
    const { client, all } = this.#parts;
    client.waitingBytes += bytes;
    all.waitingBytes += bytes;
    this.#heldBytes += bytes;
  }

  /** How large the pieces should be in which a body is read: smaller while much memory is in use. */
  get pieceBytes(): number {
    const { limits, memory } = this.#options;
    const pressure = Math.max(this.#parts.client.waitingBytes / limits.memoryPerClientBytes, memory.pressure);
    const step = Math.floor(pressure * pieceSizes.length);
    return pieceSizes[Math.min(Math.max(step, 0), pieceSizes.length - 1)]!;
  }

  [Symbol.dispose](): void {
    if (this.#isOver) return;
    this.#isOver = true;
    const { client, all, ended } = this.#parts;
    const { memory, seat } = this.#options;
    memory.release(this.#heldBytes);
    for (const usage of [client, all]) {
      usage.waitingBytes -= this.#heldBytes;
      usage.requests -= 1;
    }
    seat?.reportRequests(all.requests);
    ended();
    this.onEnd?.();
  }

  #refuse(reason: Overload): false {
    this.#overload = reason;
    this.#options.onRefused(reason, this.#parts.client.address);
    return false;
  }
}
