/** Lets one caller at a time work on a thing, by its name, in the order in which they asked. */
export class Locks {
  readonly #last = new Map<string, Promise<void>>();

  /** Waits for the turn on `name`. Disposing gives the turn to the next caller. */
  async take(name: string): Promise<Disposable> {
    const before = this.#last.get(name);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#last.set(name, promise);
    await before;
    return {
      [Symbol.dispose]: () => {
        if (this.#last.get(name) === promise) this.#last.delete(name);
        resolve();
      },
    };
  }
}
