import { Worker } from 'node:worker_threads';
import { DiskFault } from './blob-store.ts';
import { type SmallFile, type SmallFileAnswer, type SmallFileJob, syncJob } from './small-file-job.ts';

/** The most files, and bytes of them, that the thread gets at once; a single file may be larger. */
const mostFiles = 64;
const mostBytes = 1024 * 1024;
/** While so many files, or so many bytes of them, wait for the disk, there is no room for another. */
const mostWaiting = 512;
const mostWaitingBytes = 32 * 1024 * 1024;

export interface FilePlace {
  readonly temporary: string;
  readonly path: string;
}

/** The thread that writes the files; ended by its `error` event. */
export type SmallFileThread = Pick<Worker, 'on' | 'postMessage' | 'ref' | 'unref'>;

interface Waiting {
  readonly temporary: string;
  readonly path: string;
  /** One, or those of a file that is to be synced. */
  readonly pieces: readonly Buffer[];
  readonly length: number;
  readonly isSynced: boolean;
  readonly resolve: (modifiedAtMs: number) => void;
  readonly reject: (error: DiskFault) => void;
}

/**
 * Writes small files that are complete, in a thread: in the thread pool, a file takes six turns of a thread, and of this
 * one. They are synced only where that is asked for: one that a power failure has damaged does not match its digest when it
 * is read.
 */
export class SmallFiles {
  readonly #startThread: () => SmallFileThread;
  #worker: SmallFileThread | undefined;
  #queue: Waiting[] = [];
  #written: readonly Waiting[] = [];
  /** Bytes that wait, and that are being written. */
  #waitingBytes = 0;
  #isDue = false;
  #drained = Promise.withResolvers<void>();
  #isBroken = false;
  #syncs: (() => void)[] = [];
  #count = 0;

  constructor(startThread: () => SmallFileThread = workerThread) {
    this.#startThread = startThread;
  }

  /** Whether the thread can be had. */
  get isUsable(): boolean {
    return !this.#isBroken;
  }

  /** Resolves when not too many wait for the disk. */
  async room(): Promise<void> {
    while (this.#queue.length >= mostWaiting || this.#waitingBytes >= mostWaitingBytes) await this.#drained.promise;
  }

  /**
   * Writes a file and moves it to its place.
   * @param place `temporary`: the beginning of a name for it meanwhile
   * @returns when it was last written to, in milliseconds
   * @throws DiskFault
   */
  write(content: Buffer | readonly Buffer[], place: FilePlace): Promise<number> {
    return this.#enqueue(Buffer.isBuffer(content) ? [content] : content, { ...place, isSynced: false });
  }

  /** As {@link write}, for a file that is on the disk before it has its name. @param pieces left as they are until then */
  writeSynced(pieces: readonly Buffer[], place: FilePlace): Promise<number> {
    return this.#enqueue(pieces, { ...place, isSynced: true });
  }

  #enqueue(
    pieces: readonly Buffer[],
    { temporary, path, isSynced }: FilePlace & { readonly isSynced: boolean },
  ): Promise<number> {
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
    this.#count += 1;
    this.#waitingBytes += length;
    const names = { temporary: `${temporary}.${this.#count}`, path };
    this.#queue.push({ ...names, pieces, length, isSynced, resolve, reject });
    if (this.#written.length > 0 || this.#isDue) return promise;
    // With what else comes in this turn.
    this.#isDue = true;
    setImmediate(() => this.#send());
    return promise;
  }

  /** Resolves when all that has been written so far is on the disk. */
  async sync(): Promise<void> {
    if (this.#worker === undefined) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#syncs.push(resolve);
    this.#worker.ref();
    this.#worker.postMessage(syncJob);
    await promise;
  }

  #send(): void {
    this.#isDue = false;
    if (this.#written.length > 0) return;
    const batch: Waiting[] = [];
    let length = 0;
    for (const each of this.#queue) {
      if (batch.length === mostFiles || (batch.length > 0 && length + each.length > mostBytes)) break;
      batch.push(each);
      length += each.length;
    }
    if (batch.length === 0) return;
    this.#queue = this.#queue.slice(batch.length);
    this.#written = batch;
    const content = new Uint8Array(batch.reduce((sum, each) => sum + (each.isSynced ? 0 : each.length), 0));
    let end = 0;
    const files = batch.map(({ pieces, isSynced, temporary, path }): SmallFile => {
      if (isSynced) return { temporary, path, end, pieces: pieces.map(shareable) };
      for (const bytes of pieces) {
        content.set(bytes, end);
        end += bytes.length;
      }
      return { temporary, path, end };
    });
    this.#worker ??= this.#start();
    // The process does not end before that is done.
    this.#worker.ref();
    this.#worker.postMessage({ bytes: content, files } satisfies SmallFileJob, [content.buffer]);
  }

  #start(): SmallFileThread {
    const worker = this.#startThread();
    worker.on('message', (answers: SmallFileAnswer) => this.#answered(answers));
    worker.on('error', (error: unknown) => this.#fail(error));
    return worker;
  }

  #answered(answers: SmallFileAnswer): void {
    if (answers === syncJob) this.#syncs.shift()?.();
    else this.#settle(answers);
    if (this.#queue.length > 0 && this.#written.length === 0) this.#send();
    if (this.#written.length === 0 && this.#syncs.length === 0) this.#worker?.unref();
  }

  #settle(answers: Exclude<SmallFileAnswer, typeof syncJob>): void {
    const written = this.#written;
    this.#written = [];
    for (const { length } of written) this.#waitingBytes -= length;
    for (const [index, { resolve, reject }] of written.entries()) {
      const answer = answers[index];
      if (typeof answer === 'number') resolve(answer);
      else reject(new DiskFault('commit a blob', Object.assign(new Error(answer), { code: answer })));
    }
    this.#drained.resolve();
    this.#drained = Promise.withResolvers();
  }

  /** Without the thread: what waits is not kept, and what comes is written without it. */
  #fail(error: unknown): void {
    this.#isBroken = true;
    const lost = [...this.#written, ...this.#queue];
    this.#written = [];
    this.#queue = [];
    this.#waitingBytes = 0;
    this.#worker = undefined;
    for (const { reject } of lost) reject(new DiskFault('commit a blob', error));
    for (const resolve of this.#syncs.splice(0)) resolve();
    this.#drained.resolve();
  }
}

function workerThread(): Worker {
  return new Worker(new URL('small-file-worker.ts', import.meta.url), {
    resourceLimits: { maxOldGenerationSizeMb: 32, maxYoungGenerationSizeMb: 2, stackSizeMb: 1 },
  });
}

/** Memory that the thread can read: the same, where it can be shared, and otherwise a copy of no more than these bytes. */
function shareable(bytes: Buffer): Uint8Array {
  const { buffer, byteOffset, byteLength } = bytes;
  return buffer instanceof SharedArrayBuffer ? new Uint8Array(buffer, byteOffset, byteLength) : new Uint8Array(bytes);
}
