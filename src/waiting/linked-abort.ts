/**
 * A signal of its own that others abort, too, until it is disposed. `AbortSignal.any` and `AbortSignal.timeout` do the
 * same and stay in memory after that, until the collector finds them: for each small answer that costs more than the rest.
 */
export class LinkedAbort implements Disposable {
  readonly #own = new AbortController();
  readonly #parents: readonly (AbortSignal | undefined)[];
  readonly #follow = (event: Event): void => this.#own.abort((event.target as AbortSignal).reason);
  #timer: NodeJS.Timeout | undefined;

  /** @param parents absent ones abort nothing */
  constructor(...parents: readonly (AbortSignal | undefined)[]) {
    this.#parents = parents;
    for (const parent of parents) {
      if (parent?.aborted === true) this.#own.abort(parent.reason);
      else parent?.addEventListener('abort', this.#follow, { once: true });
    }
  }

  get signal(): AbortSignal {
    return this.#own.signal;
  }

  abort(reason: unknown): void {
    this.#own.abort(reason);
  }

  /** Aborts with a `TimeoutError` after some milliseconds, as `AbortSignal.timeout` does. */
  timeoutAfter(ms: number): this {
    this.#timer = setTimeout(() => {
      this.#own.abort(new DOMException('The operation was aborted due to timeout', 'TimeoutError'));
    }, ms).unref();
    return this;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    for (const parent of this.#parents) parent?.removeEventListener('abort', this.#follow);
  }
}
