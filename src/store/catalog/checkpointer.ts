import { Worker } from 'node:worker_threads';
import { asked, type CheckpointAnswer, ending, holdAt, idle, running, stateAt } from './checkpoint-job.ts';

/** The log of the catalog is moved into its file when it is longer than this. */
const longLogBytes = 4 * 1024 * 1024;
/** The thread ends when it has had nothing to do for so long: most of the time nothing is written. */
const idleMs = 30_000;
/** Closing the catalog waits no longer than this for the pass of a checkpoint: the disk may not answer at all. */
const mostEndingMs = 10_000;

export interface CheckpointerOptions {
  /** Path of the database file. */
  readonly path: string;
  /** Called when the thread cannot do it: the connection has to, from now on. */
  readonly onFailed: (message: string) => void;
}

/**
 * Moves what the log of the catalog holds into its file, in a thread: this waits for the disk, for as long as everything
 * else that is being written there makes it.
 */
export class Checkpointer implements Disposable {
  readonly #options: CheckpointerOptions;
  readonly #shared = new Int32Array(new SharedArrayBuffer(8));
  #worker: Worker | undefined;
  #idle: NodeJS.Timeout | undefined;
  #isBusy = false;
  #isOver = false;

  constructor(options: CheckpointerOptions) {
    this.#options = options;
  }

  /** Whether a commit should wait for a moment, so that the end of the log can be reached. */
  get isEnding(): boolean {
    return Atomics.load(this.#shared, holdAt) === 1;
  }

  /** @param logBytes length of the log */
  look(logBytes: number): void {
    if (this.#isBusy || this.#isOver || logBytes < longLogBytes) return;
    this.#isBusy = true;
    clearTimeout(this.#idle);
    this.#worker ??= this.#start();
    Atomics.store(this.#shared, stateAt, asked);
    this.#worker.postMessage(this.#options.path);
  }

  /**
   * Ends the thread, and waits for the pass that it does: it has the file of the log's index in memory, which SQLite
   * truncates when the catalog is opened again, and the last connection to be closed removes the log.
   */
  [Symbol.dispose](): void {
    this.#isOver = true;
    Atomics.compareExchange(this.#shared, stateAt, asked, idle);
    Atomics.compareExchange(this.#shared, stateAt, running, ending);
    Atomics.wait(this.#shared, stateAt, ending, mostEndingMs);
    this.#end();
  }

  #start(): Worker {
    const worker = new Worker(new URL('checkpoint-worker.ts', import.meta.url), {
      workerData: this.#shared,
      // It does next to nothing in JavaScript.
      resourceLimits: { maxOldGenerationSizeMb: 24, maxYoungGenerationSizeMb: 2, stackSizeMb: 1 },
    });
    worker.unref();
    worker.on('message', (answer: CheckpointAnswer) => {
      this.#isBusy = false;
      if (answer.kind === 'failed') this.#fail(answer.message);
      else this.#idle = setTimeout(() => this.#end(), idleMs).unref();
    });
    worker.on('error', (error: unknown) => {
      // A thread that has ended has no connection.
      Atomics.store(this.#shared, stateAt, idle);
      this.#fail(String(error));
    });
    return worker;
  }

  #fail(message: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#end();
    this.#options.onFailed(message);
  }

  #end(): void {
    clearTimeout(this.#idle);
    Atomics.store(this.#shared, holdAt, 0);
    void this.#worker?.terminate();
    this.#worker = undefined;
  }
}
