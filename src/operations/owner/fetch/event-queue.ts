/**
 * Events on their way to whoever reads them at his own pace. One with a key takes the place of an earlier one with that
 * key that has not been read, so that what is kept does not grow with the reader's slowness.
 */
export class EventQueue<Event> {
  readonly #events = new Map<unknown, Event>();
  #changed = Promise.withResolvers<void>();
  #end: { readonly error?: unknown } | undefined;

  push(event: Event, key: unknown = Symbol()): void {
    this.#events.set(key, event);
    this.#changed.resolve();
  }

  /** Nothing comes any more. @param end `error`: what the reader is thrown after the last event */
  end(end: { readonly error?: unknown } = {}): void {
    this.#end ??= end;
    this.#changed.resolve();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Event> {
    for (;;) {
      for (const [key, event] of this.#events) {
        this.#events.delete(key);
        yield event;
      }
      if (this.#events.size > 0) continue;
      if (this.#end) {
        if ('error' in this.#end) throw this.#end.error;
        return;
      }
      this.#changed = Promise.withResolvers();
      await this.#changed.promise;
    }
  }
}
