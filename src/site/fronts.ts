import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { Worker } from 'node:worker_threads';
import { LRUCache } from 'lru-cache';
import type { KeptAnswer } from '../front/kept-answer.ts';
import { Loads } from '../front/loads.ts';
import type {
  FromFront,
  FrontLimits,
  FrontReport,
  FrontSettings,
  FrontTls,
  MovedConnection,
  ToFront,
} from '../front/messages.ts';

/** Pause before a thread that has failed is started again, in milliseconds; doubled each time, up to the longest. */
const firstPauseMs = 50;
const longestPauseMs = 5_000;
/** A thread that has run for so long has not failed at its start. */
const provenMs = 10_000;
/** Answers of which it is remembered that the threads have them. */
const maxRemembered = 20_000;

/** A connection of which a front could not answer a request. */
export interface MovedHere extends MovedConnection {
  /** Gives it back to the front that it comes from. @param fd as of {@link MovedConnection} */
  readonly giveBack: (fd: number) => void;
}

export interface FrontsOptions {
  /** How many threads answer. */
  readonly threads: number;
  /** `port`: 0 for one that the system chooses. */
  readonly settings: Omit<FrontSettings, 'seat'>;
  readonly onReport: (report: FrontReport) => void;
  readonly onMoved: (moved: MovedHere) => void;
  /** Called when a thread has died; another one takes its place. */
  readonly onFailure: (error: Error) => void;
  /** Called when another thread has taken the place of one that has died, and listens. */
  readonly onReplaced?: () => void;
}

/** The threads that share the port of the mirror. */
export class Fronts {
  /** `host:port` they listen on. */
  readonly address: string;
  readonly #options: FrontsOptions;
  readonly #sent = new LRUCache<string, KeptAnswer>({ max: maxRemembered });
  readonly #seats: Seat[] = [];
  #settings: Omit<FrontSettings, 'seat'>;
  #isClosing = false;

  private constructor(options: FrontsOptions, { address, port }: { address: string; port: number }) {
    this.#options = options;
    this.#settings = { ...options.settings, port };
    this.address = address;
  }

  /** @throws Error in one sentence when the address cannot be had */
  static async start(options: FrontsOptions): Promise<Fronts> {
    const fronts = new Fronts(options, await reserve(options.settings));
    // Of the seats the first is that of the main thread.
    const seats = Array.from({ length: options.threads }, (_, index) => new Seat(index + 1));
    const workers = await Promise.all(seats.map(({ index }) => startWorker({ ...fronts.#settings, seat: index })));
    for (const [index, worker] of workers.entries()) fronts.#take(seats[index]!, worker);
    return fronts;
  }

  /** How many threads answer now. */
  get count(): number {
    return this.#seats.filter(({ worker }) => worker !== undefined).length;
  }

  replaceLimits(limits: FrontLimits): void {
    this.#settings = { ...this.#settings, limits };
    this.#send({ kind: 'limits', limits });
  }

  /** Takes another certificate for connections that are made from now on. */
  renewTls(tls: FrontTls): void {
    this.#settings = { ...this.#settings, tls };
    this.#send({ kind: 'tls', tls });
  }

  /** Lets all threads give an answer, as long as it holds. */
  keep(key: string, answer: KeptAnswer): void {
    if (this.#sent.get(key) === answer) return;
    this.#sent.set(key, answer);
    this.#send({ kind: 'keep', key, answer });
  }

  /** Closes the listeners, lets answers under way end within `drainMs`, then cuts the rest. */
  async close(drainMs: number): Promise<void> {
    this.#isClosing = true;
    await Promise.all(
      this.#seats.map(async (seat) => {
        seat.restart?.[Symbol.dispose]();
        const { worker } = seat;
        if (worker === undefined) return;
        const ended = once(worker, 'exit');
        post(worker, { kind: 'close', drainMs });
        await ended;
      }),
    );
  }

  /** Has the first thread throw, by a message that is none. For tests. */
  fail(): void {
    this.#seats[0]?.worker?.postMessage(undefined);
  }

  #send(message: ToFront): void {
    for (const { worker } of this.#seats) if (worker) post(worker, message);
  }

  #take(seat: Seat, worker: Worker): void {
    if (!this.#seats.includes(seat)) this.#seats.push(seat);
    seat.worker = worker;
    seat.sinceMs = performance.now();
    // It has none of the answers that the others have.
    this.#sent.clear();
    worker.on('message', (message: FromFront) => this.#heard(message, worker));
    let failure: Error | undefined;
    worker.once('error', (error: Error) => {
      failure = error;
    });
    worker.once('exit', () => {
      seat.worker = undefined;
      new Loads(this.#settings.loads).seat(seat.index).clear();
      if (this.#isClosing) return;
      this.#options.onFailure(failure ?? new Error('it has ended'));
      this.#restart(seat);
    });
    if (this.#isClosing) void worker.terminate();
  }

  #heard(message: FromFront, worker: Worker): void {
    if (message.kind === 'report') this.#options.onReport(message.report);
    if (message.kind !== 'moved') return;
    const { moved } = message;
    // It has lost the answer, or never had it.
    if (moved.key !== undefined) this.#sent.delete(moved.key);
    this.#options.onMoved({ ...moved, giveBack: (fd) => post(worker, { kind: 'back', fd }) });
  }

  #restart(seat: Seat): void {
    if (performance.now() - seat.sinceMs > provenMs) seat.pauseMs = firstPauseMs;
    const timer = setTimeout(() => {
      startWorker({ ...this.#settings, seat: seat.index }).then(
        (worker) => {
          this.#take(seat, worker);
          if (!this.#isClosing) this.#options.onReplaced?.();
        },
        (error: unknown) => {
          this.#options.onFailure(error instanceof Error ? error : new Error(String(error)));
          if (!this.#isClosing) this.#restart(seat);
        },
      );
    }, seat.pauseMs);
    seat.restart = { [Symbol.dispose]: () => clearTimeout(timer) };
    seat.pauseMs = Math.min(longestPauseMs, seat.pauseMs * 2);
  }
}

/** The place of one thread after another. */
class Seat {
  readonly index: number;
  worker: Worker | undefined;
  sinceMs = 0;
  pauseMs = firstPauseMs;
  restart: Disposable | undefined;

  constructor(index: number) {
    this.index = index;
  }
}

function post(worker: Worker, message: ToFront): void {
  worker.postMessage(message);
}

/** Finds out whether the address is free: the threads share it with anything that lets them. @throws Error in one sentence */
async function reserve({
  host,
  port,
}: Pick<FrontSettings, 'host' | 'port'>): Promise<{ address: string; port: number }> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, resolve);
  }).catch((error: NodeJS.ErrnoException) => {
    const why = error.code === 'EADDRINUSE' ? 'another program listens there' : (error.code ?? error.message);
    throw new Error(`cannot listen on ${host ?? '*'}:${port}: ${why}`, { cause: error });
  });
  const found = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  const name = found.family === 'IPv6' ? `[${found.address}]` : found.address;
  return { address: `${name}:${found.port}`, port: found.port };
}

async function startWorker(settings: FrontSettings): Promise<Worker> {
  const worker = new Worker(new URL('front-thread.ts', import.meta.url), {
    workerData: settings,
    name: 'front',
    // What is kept lies outside of the nursery; a small one stays in the processor's cache.
    resourceLimits: { maxYoungGenerationSizeMb: 8 },
  });
  const failed = once(worker, 'exit').then(() => {
    throw new Error('a front thread ended before it listened');
  });
  failed.catch(() => undefined);
  const [message] = (await Promise.race([once(worker, 'message'), failed])) as [FromFront];
  if (message.kind === 'listening') return worker;
  await worker.terminate();
  throw new Error(message.kind === 'failed' ? message.message : 'a front thread did not listen');
}
