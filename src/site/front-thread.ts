// The body of a front thread: answers what is kept, and hands the rest to the main thread. Started by site/fronts.ts.
import { type AddressInfo, type Server, Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { parentPort, workerData } from 'node:worker_threads';
import { FileSender } from '../front/file-sender.ts';
import { Generations } from '../front/generations.ts';
import { KeptAnswers } from '../front/kept-answers.ts';
import { Loads } from '../front/loads.ts';
import type { FromFront, FrontLimits, FrontSettings, ToFront } from '../front/messages.ts';
import { moveAway } from '../front/moved-connection.ts';
import { OpenFiles } from '../front/open-files.ts';
import { RawConnections, type Unanswered } from '../front/raw-connections.ts';
import { Relays } from '../front/relays.ts';
import { Reporter } from '../front/reporter.ts';
import { ShortWay } from '../front/short-way.ts';
import { SpareDescriptors } from '../front/spare-descriptors.ts';
import { type SystemCalls, systemCalls } from '../front/system-calls.ts';
import { Admission } from '../http/admission.ts';
import { roomsOf } from '../http/rooms.ts';
import { MemoryBudget } from '../memory/memory-budget.ts';
import { described } from './described.ts';
import { createFrontAcceptor, renewFrontTls } from './front-acceptor.ts';

/** Files that stay open beside those that are being sent. */
const maxOpenFiles = 128;
/** More than there are connections that change threads at the same moment. */
const spareDescriptors = 4;

/** The parts of the process that this thread uses. */
interface Means {
  readonly calls: SystemCalls;
  readonly tell: (message: FromFront) => void;
  /** Ends the thread, once nothing is open. */
  readonly end: () => void;
}

/** Accepts connections and answers what is kept; gives everything else to the main thread, with its connection. */
class FrontThread {
  readonly #settings: FrontSettings;
  readonly #means: Means;
  readonly #answers: KeptAnswers;
  readonly #files = new OpenFiles({ max: maxOpenFiles });
  readonly #spare: SpareDescriptors;
  readonly #reporter: Reporter;
  readonly #admission: Admission;
  readonly #connections: RawConnections;
  readonly #relays: Relays;
  readonly #server: Server;
  #limits: FrontLimits;

  constructor(settings: FrontSettings, means: Means) {
    this.#settings = settings;
    this.#means = means;
    this.#limits = settings.limits;
    const { calls, tell } = means;
    const generations = new Generations(settings.generations);
    this.#answers = new KeptAnswers({ generations, maxBytes: settings.keptBytes, now: Date.now });
    this.#spare = new SpareDescriptors(calls, { count: spareDescriptors });
    this.#reporter = new Reporter({ send: (report) => tell({ kind: 'report', report }), described });
    this.#admission = admissionOf(settings, () => this.#limits);
    const handOver = (socket: Socket, unanswered: Unanswered) => this.#handOver(socket, unanswered);
    this.#connections = new RawConnections({ way: this.#shortWay(), calls, handOver });
    this.#relays = new Relays({
      calls,
      give: (moved) => tell({ kind: 'moved', moved }),
      takeBack: (socket) => this.#takeBack(socket),
    });
    this.#server = createFrontAcceptor({
      tls: settings.tls,
      admission: this.#admission,
      calls,
      accepted: (socket, isRefused) => {
        if (isRefused) handOver(socket, { bytes: Buffer.alloc(0), key: undefined });
        else this.#connections.take(socket);
      },
    });
  }

  /** @returns the port it listens on */
  async listen(): Promise<number> {
    const { host, port } = this.#settings;
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen({ host, port, reusePort: true }, resolve);
    });
    return (this.#server.address() as AddressInfo).port;
  }

  /** Does what the main thread says. */
  receive(message: ToFront): void {
    switch (message.kind) {
      case 'limits':
        this.#limits = message.limits;
        return;
      case 'keep':
        this.#answers.set(message.key, message.answer);
        return;
      case 'tls':
        renewFrontTls(this.#server, message.tls);
        return;
      case 'back':
        this.#takeBack(new Socket({ fd: message.fd, allowHalfOpen: true }));
        return;
      case 'close':
        void this.#close(message.drainMs);
        return;
      default:
        message satisfies never;
    }
  }

  #shortWay(): ShortWay {
    return new ShortWay({
      answers: this.#answers,
      files: this.#files,
      sender: new FileSender(this.#settings.usesSendfile ? this.#means.calls : undefined),
      rooms: roomsOf(this.#admission),
      reading: () => ({ [Symbol.dispose]: () => undefined }),
      onServed: (served) => this.#reporter.served(served),
      clientIdleMs: () => this.#limits.clientIdleMs,
      now: Date.now,
    });
  }

  #handOver(socket: Socket, unanswered: Unanswered): void {
    // Before the main thread counts it.
    this.#admission.leaves(socket);
    if (socket instanceof TLSSocket) return this.#relays.begin(socket, unanswered);
    const moved = moveAway(socket, { ...unanswered, calls: this.#spare });
    if (moved) this.#means.tell({ kind: 'moved', moved });
  }

  #takeBack(socket: Socket): void {
    this.#admission.connected(socket);
    this.#connections.take(socket, { isNew: false });
    socket.resume();
  }

  async #close(drainMs: number): Promise<void> {
    this.#server.close();
    this.#connections.drain();
    setTimeout(() => {
      this.#connections.cut();
      this.#relays.cut();
    }, drainMs).unref();
    await untilEmpty(this.#connections, this.#relays);
    this.#reporter[Symbol.dispose]();
    this.#files[Symbol.dispose]();
    this.#spare[Symbol.dispose]();
    this.#means.end();
  }
}

/** Counts what this thread does for clients, beside what the other threads do. */
function admissionOf({ loads, seat: index }: FrontSettings, limits: () => FrontLimits): Admission {
  const seat = new Loads(loads).seat(index);
  const memoryLimit = {
    get memoryBytes() {
      return limits().memoryBytes;
    },
  };
  return new Admission({
    get limits() {
      return limits();
    },
    memory: new MemoryBudget(memoryLimit, seat),
    seat,
    // The main thread has the request then, and refuses it where it finds no room either.
    onRefused: () => undefined,
  });
}

async function run(settings: FrontSettings): Promise<void> {
  const calls = systemCalls();
  if (calls === undefined) throw new Error('a front thread needs node:ffi');
  const port = parentPort!;
  const tell = (message: FromFront): void => port.postMessage(message);
  const front = new FrontThread(settings, { calls, tell, end: () => port.close() });
  port.on('message', (message: ToFront) => front.receive(message));
  tell({ kind: 'listening', port: await front.listen() });
}

async function untilEmpty(...all: readonly { readonly count: number }[]): Promise<void> {
  while (all.some(({ count }) => count > 0)) await new Promise((resolve) => setTimeout(resolve, 20));
}

run(workerData as FrontSettings).catch((error: unknown) => {
  parentPort!.postMessage({ kind: 'failed', message: error instanceof Error ? error.message : String(error) });
});
