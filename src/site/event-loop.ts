import { monitorEventLoopDelay } from 'node:perf_hooks';
import { Worker } from 'node:worker_threads';
import type { Logger } from '../telemetry/logger.ts';
import { type StallWatch, stallMs } from './stall-watch.ts';

/** The interval that is measured, in milliseconds, where nothing is late. */
const resolutionMs = 20;
/** How often the main thread says that it goes on, in milliseconds. */
const beatMs = 50;
/** What the thread is begun for: a loop that is never late needs none, and a thread takes memory. */
const lateMs = 50;
/** How long after a stall what held the loop may still be told, in milliseconds. */
const patienceMs = 200;
/** No more stalls than this are logged in a minute. */
const mostLinesInMinute = 10;

/** How late the event loop has been since the start. */
export interface EventLoopReading {
  /** Milliseconds. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  /** How often it was held for longer than 200 ms. */
  readonly stalls: number;
}

/** Measures how late the event loop of this process is, and logs what held it for longer than 200 ms. */
export class EventLoop implements AsyncDisposable {
  readonly #log: Logger;
  readonly #histogram = monitorEventLoopDelay({ resolution: resolutionMs });
  readonly #watch: StallWatch = {
    beats: new Int32Array(new SharedArrayBuffer(4)),
    root: new URL('../..', import.meta.url).href,
  };
  #worker: Worker | undefined;
  #beating: NodeJS.Timeout | undefined;
  #beatAtMs = 0;
  #stalls = 0;
  #frames: readonly string[] | undefined;
  #logged: number[] = [];

  constructor({ log }: { readonly log: Logger }) {
    this.#log = log;
  }

  /** Measures from now on. */
  start(): void {
    this.#histogram.enable();
    this.#beatAtMs = performance.now();
    this.#beating = setInterval(() => this.#beat(), beatMs).unref();
  }

  reading(): EventLoopReading {
    const { max } = this.#histogram;
    const inMs = (nanoseconds: number): number => Math.max(0, Math.round(nanoseconds / 1e5 - resolutionMs * 10) / 10);
    return {
      p50Ms: inMs(this.#histogram.percentile(50)),
      p99Ms: inMs(this.#histogram.percentile(99)),
      maxMs: inMs(max),
      stalls: this.#stalls,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#beating);
    this.#histogram.disable();
    await this.#worker?.terminate();
  }

  #beat(): void {
    const nowMs = performance.now();
    const heldMs = nowMs - this.#beatAtMs - beatMs;
    this.#beatAtMs = nowMs;
    Atomics.add(this.#watch.beats, 0, 1);
    if (heldMs >= lateMs) this.#worker ??= this.#startWorker();
    if (heldMs < stallMs) return;
    this.#stalls += 1;
    this.#logged = this.#logged.filter((atMs) => nowMs - atMs < 60_000);
    if (this.#logged.length >= mostLinesInMinute) return;
    this.#logged.push(nowMs);
    // What the thread has seen may come a moment later.
    setTimeout(() => {
      this.#log.warn({ ms: Math.round(heldMs), stack: this.#frames }, 'the event loop was held');
      this.#frames = undefined;
    }, patienceMs).unref();
  }

  #startWorker(): Worker {
    const worker = new Worker(new URL('./stall-worker.ts', import.meta.url), {
      workerData: this.#watch,
      // It does next to nothing.
      resourceLimits: { maxOldGenerationSizeMb: 24, maxYoungGenerationSizeMb: 2, stackSizeMb: 1 },
    });
    worker.unref();
    worker.on('message', (frames: readonly string[]) => {
      this.#frames = frames;
    });
    // Without it stalls are counted and logged all the same.
    worker.on('error', (error: unknown) =>
      this.#log.debug({ error: String(error) }, 'the causes of stalls are not recorded'),
    );
    return worker;
  }
}
