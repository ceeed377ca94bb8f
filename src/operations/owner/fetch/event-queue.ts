/**
 * Events for a reader that reads at its own pace. An event with a key replaces an earlier unread one with that key, so
 * that a slow reader does not make the queue grow.
 */
export class EventQueue<Event> {
  readonly #events = new Map<unknown, Event>();
  #changed = Promise.withResolvers<void>();
  #end: { readonly error?: unknown } | undefined;

  push(event: Event, key: unknown = Symbol()): void {
    this.#events.set(key, event);
    this.#changed.resolve();
  }

  /** Ends the queue. @param end `error`: thrown to the reader after the last event */
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
