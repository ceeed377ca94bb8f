import { closeSync, openSync } from 'node:fs';
import type { SystemCalls } from './system-calls.ts';

/**
 * Descriptors that are held for the moment when the process has as many open as it may: a connection needs one more while it
 * goes to another thread, and has to get its answer there.
 */
export class SpareDescriptors implements Pick<SystemCalls, 'duplicate'>, Disposable {
  readonly #calls: Pick<SystemCalls, 'duplicate' | 'duplicateOnto'>;
  readonly #count: number;
  readonly #spare: number[] = [];

  constructor(calls: Pick<SystemCalls, 'duplicate' | 'duplicateOnto'>, { count }: { readonly count: number }) {
    this.#calls = calls;
    this.#count = count;
    this.#refill();
  }

  duplicate(fd: number): number {
    this.#refill();
    try {
      return this.#calls.duplicate(fd);
    } catch (error) {
      const spare = this.#spare.pop();
      if (spare === undefined) throw error;
      this.#calls.duplicateOnto(fd, spare);
      return spare;
    }
  }

  [Symbol.dispose](): void {
    for (const fd of this.#spare.splice(0)) closeSync(fd);
  }

  /** Opens spare descriptors again: that works as soon as the connections that took their places have been closed. */
  #refill(): void {
    try {
      while (this.#spare.length < this.#count) this.#spare.push(openSync('/dev/null', 'r'));
    } catch {
      // Later.
    }
  }
}
