import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { Digest, DigestAlgorithm } from '../../oci/digest.ts';
import { DiskFault } from './blob-store.ts';
import { type HashAnswer, type HashJob, kibPerSecondAt, stopAt } from './hash-job.ts';

/** A file that has been read to its end. */
export interface HashedFile {
  /** `undefined`: it is not a regular file, but a pipe or a device. */
  readonly digest: Digest | undefined;
  /** Bytes. */
  readonly size: number;
  /** Identifies the file, in case another one has its name by now. */
  readonly inode: number;
  /** Modification time before it was read, in milliseconds. */
  readonly modifiedAtMs: number;
}

export interface FileHasherOptions {
  /** Maximum rate in bytes per second, read again for each file; `undefined`: unlimited. */
  readonly bytesPerSecond?: () => number | undefined;
}

/**
 * Hashes files, one after another, in its own thread, without delaying clients. Memory use does not depend on their size.
 * The thread starts with the first file.
 */
export class FileHasher implements AsyncDisposable {
  readonly #options: FileHasherOptions;
  readonly #control = new Int32Array(new SharedArrayBuffer(8));
  #worker: Worker | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  constructor(options: FileHasherOptions = {}) {
    this.#options = options;
  }

  /**
   * Hashes a file.
   * @param options `onRead`: receives the number of bytes as they are read
   * @returns `undefined` if there is no such file
   * @throws DiskFault if it cannot be read; the signal's reason
   */
  async hash(
    path: string,
    options: {
      readonly algorithm: DigestAlgorithm;
      readonly signal: AbortSignal;
      readonly onRead?: ((bytes: number) => void) | undefined;
    },
  ): Promise<HashedFile | undefined> {
    const before = this.#last;
    const mine = Promise.withResolvers<void>();
    this.#last = mine.promise;
    try {
      await before;
      options.signal.throwIfAborted();
      if (this.#isClosed) throw new Error('the hasher has been closed');
      return await this.#hash({ path, algorithm: options.algorithm }, options);
    } finally {
      mine.resolve();
    }
  }

  /** Ends the thread and its current work. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    this.#stop();
    await this.#last;
    await this.#worker?.terminate();
  }

  async #hash(
    job: HashJob,
    { signal, onRead }: { readonly signal: AbortSignal; readonly onRead?: ((bytes: number) => void) | undefined },
  ): Promise<HashedFile | undefined> {
    Atomics.store(this.#control, stopAt, 0);
    const { bytesPerSecond } = this.#options;
    Atomics.store(this.#control, kibPerSecondAt, Math.ceil((bytesPerSecond?.() ?? 0) / 1024));
    const stop = () => this.#stop();
    signal.addEventListener('abort', stop, { once: true });
    try {
      const answer = await this.#ask(job, onRead);
      signal.throwIfAborted();
      switch (answer.kind) {
        case 'hashed':
          return {
            digest: answer.hex === undefined ? undefined : (`${job.algorithm}:${answer.hex}` as Digest),
            size: answer.size,
            inode: answer.inode,
            modifiedAtMs: answer.modifiedAtMs,
          };
        case 'stopped':
          throw new Error('the hasher has been closed');
        case 'failed':
          if (answer.code === 'ENOENT') return undefined;
          throw new DiskFault('read a blob', Object.assign(new Error(answer.code), { code: answer.code }));
        default:
          return answer satisfies never;
      }
    } finally {
      signal.removeEventListener('abort', stop);
    }
  }

  async #ask(
    job: HashJob,
    onRead: ((bytes: number) => void) | undefined,
  ): Promise<Exclude<HashAnswer, { kind: 'read' }>> {
    this.#worker ??= new Worker(new URL('hash-worker.ts', import.meta.url), { workerData: this.#control });
    const worker = this.#worker;
    const { promise, resolve } = Promise.withResolvers<Exclude<HashAnswer, { kind: 'read' }>>();
    const answered = (answer: HashAnswer) => (answer.kind === 'read' ? onRead?.(answer.bytes) : resolve(answer));
    const ended = new AbortController();
    worker.on('message', answered);
    try {
      worker.postMessage(job);
      // A thread that dies, for example for lack of memory, is started again with the next file.
      const death = once(worker, 'exit', { signal: ended.signal }).then(() => {
        throw new Error('the thread that hashes has ended');
      });
      return await Promise.race([promise, death]);
    } catch (error) {
      this.#worker = undefined;
      throw error;
    } finally {
      ended.abort();
      worker.off('message', answered);
    }
  }

  #stop(): void {
    Atomics.store(this.#control, stopAt, 1);
    Atomics.notify(this.#control, stopAt);
  }
}
