export interface RoundsOptions {
  /** Between the starts of two rounds, in milliseconds. */
  readonly everyMs: number;
  /** Whether the first round starts at once. */
  readonly startsAtOnce: boolean;
}

/** Repeats work in the background. A round that takes longer than the interval delays the next one. */
export class Rounds implements AsyncDisposable {
  readonly #run: (signal: AbortSignal) => Promise<void>;
  readonly #stop = new AbortController();
  readonly #timer: NodeJS.Timeout;
  #running: Promise<void> = Promise.resolve();

  /** @param run one round; must not reject */
  constructor(run: (signal: AbortSignal) => Promise<void>, { everyMs, startsAtOnce }: RoundsOptions) {
    this.#run = run;
    this.#timer = setInterval(() => this.#next(), everyMs).unref();
    if (startsAtOnce) this.#next();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    this.#stop.abort();
    await this.#running;
  }

  #next(): void {
    const { signal } = this.#stop;
    this.#running = this.#running.then(() => (signal.aborted ? undefined : this.#run(signal)));
  }
}
