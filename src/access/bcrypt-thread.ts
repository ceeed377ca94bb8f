import { Worker } from 'node:worker_threads';

export interface BcryptJob {
  readonly id: number;
  readonly password: string;
  readonly hash: string;
}

export interface BcryptResult {
  readonly id: number;
  readonly isRight: boolean;
}

interface Waiting {
  readonly resolve: (isRight: boolean) => void;
  readonly reject: (error: Error) => void;
}

/** A thread that compares passwords with bcrypt hashes, started when it is first needed. */
export class BcryptThread implements AsyncDisposable {
  readonly #waiting = new Map<number, Waiting>();
  #worker: Worker | undefined;
  #lastId = 0;

  /** @throws Error where the thread has ended */
  async compare(password: string, hash: string): Promise<boolean> {
    const worker = this.#started();
    const id = (this.#lastId += 1);
    const { promise, resolve, reject } = Promise.withResolvers<boolean>();
    this.#waiting.set(id, { resolve, reject });
    worker.postMessage({ id, password, hash } satisfies BcryptJob);
    return await promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker?.terminate();
  }

  #started(): Worker {
    if (this.#worker) return this.#worker;
    const worker = new Worker(new URL('./bcrypt-worker.ts', import.meta.url), {
      env: {},
      // A diagnostic report has a part for each thread, and the options of the process do not hold for this one.
      execArgv: ['--report-exclude-env'],
    });
    worker.unref();
    worker.on('message', ({ id, isRight }: BcryptResult) => {
      this.#waiting.get(id)?.resolve(isRight);
      this.#waiting.delete(id);
    });
    // An error is followed by the end of the thread.
    worker.on('error', () => undefined);
    worker.on('exit', () => {
      if (this.#worker === worker) this.#worker = undefined;
      for (const { reject } of this.#waiting.values()) reject(new Error('the thread that checks passwords has ended'));
      this.#waiting.clear();
    });
    this.#worker = worker;
    return worker;
  }
}
