import { Worker } from 'node:worker_threads';
import { inMemory } from './index-file.ts';
import type { IndexQuestion, IndexQuestions, IndexReply } from './index-messages.ts';

/** A thread that nothing is asked of for this long gives its memory back, in milliseconds. */
const idleMs = 5 * 60_000;

interface Waiting {
  readonly resolve: (answer: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** The thread that has the search index: neither writing to it nor reading from it holds up this one. */
export class IndexThread implements AsyncDisposable {
  readonly #path: string;
  readonly #waiting = new Map<number, Waiting>();
  #worker: Worker | undefined;
  #lastId = 0;
  #idle: NodeJS.Timeout | undefined;
  /** Two threads cannot have the file at a time. */
  #closing: Promise<void> | undefined;
  #isClosed = false;

  /** @param path of the database; the thread starts with the first question */
  constructor(path: string) {
    this.#path = path;
  }

  /** Asks the thread. @throws Error where the index cannot be read or written, or the thread has ended */
  async ask<Kind extends IndexQuestion>(
    kind: Kind,
    asked: IndexQuestions[Kind]['asked'],
  ): Promise<IndexQuestions[Kind]['answer']> {
    if (this.#isClosed) throw new Error('the search index has been closed');
    await this.#closing;
    return await this.#ask(kind, asked);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.#closing;
    await this.#close();
  }

  /** It ends with what it is doing; the next question starts another thread. */
  async #close(): Promise<void> {
    clearTimeout(this.#idle);
    const worker = this.#worker;
    if (worker === undefined) return;
    await this.#ask('close', null).catch(() => undefined);
    await worker.terminate();
    this.#closing = undefined;
  }

  #ask<Kind extends IndexQuestion>(
    kind: Kind,
    asked: IndexQuestions[Kind]['asked'],
  ): Promise<IndexQuestions[Kind]['answer']> {
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const id = (this.#lastId += 1);
    this.#waiting.set(id, { resolve, reject });
    clearTimeout(this.#idle);
    this.#worker ??= this.#start();
    this.#worker.ref();
    this.#worker.postMessage({ id, kind, asked });
    return promise as Promise<IndexQuestions[Kind]['answer']>;
  }

  #start(): Worker {
    const worker = new Worker(new URL('index-worker.ts', import.meta.url), { workerData: { path: this.#path } });
    worker.on('message', (reply: IndexReply) => {
      const waiting = this.#waiting.get(reply.id);
      this.#waiting.delete(reply.id);
      // A thread that nothing is asked of does not keep the process.
      if (this.#waiting.size === 0) this.#rest(worker);
      if ('error' in reply) waiting?.reject(new Error(`the search index: ${reply.error}`));
      else waiting?.resolve(reply.answer);
    });
    worker.on('error', (error) => this.#end(worker, error));
    worker.on('exit', () => this.#end(worker, new Error('the thread of the search index has ended')));
    return worker;
  }

  #rest(worker: Worker): void {
    worker.unref();
    clearTimeout(this.#idle);
    // An index in memory alone lasts as long as the thread.
    if (this.#path === inMemory) return;
    this.#idle = setTimeout(() => {
      this.#closing = this.#close();
    }, idleMs).unref();
  }

  /** Rejects what waits; the next question starts another thread. */
  #end(worker: Worker, error: unknown): void {
    if (this.#worker !== worker) return;
    this.#worker = undefined;
    for (const { reject } of this.#waiting.values()) reject(error instanceof Error ? error : new Error(String(error)));
    this.#waiting.clear();
  }
}
