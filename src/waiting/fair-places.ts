import { LRUCache } from 'lru-cache';
import { upTo } from '../oci/lru-bound.ts';

/** Keys that are remembered as slow. */
const maxSlowKeys = 5_000;
/** Slow tasks, in multiples of the places, up to which a task that takes long gives its place to another. */
const mostSlow = 4;

export interface FairPlacesOptions {
  /** Tasks at a time, and as many of slow keys beside them. */
  readonly places: number;
  /** A task that takes longer is slow, and so is its key until one of its tasks succeeds sooner, in milliseconds. */
  readonly slowAfterMs: number;
}

/** A place, which ends when it is disposed. */
export interface FairPlace extends Disposable {
  /** The task has succeeded: if it was quick, so is its key. */
  succeeded(): void;
}

interface Waiter {
  readonly give: (holder: Holder) => void;
}

interface Holder {
  readonly key: string;
  readonly sinceMs: number;
  isSlow: boolean;
  overdue: NodeJS.Timeout | undefined;
}

/**
 * Places for the tasks of many keys. A task that takes long gives its place to another and goes on beside it, and further tasks of
 * its key have places of their own: however many keys take long, the others have theirs. Of several keys that wait, each has
 * its turn.
 */
export class FairPlaces {
  readonly #options: FairPlacesOptions;
  /** Tasks that wait, by key; the key whose turn is next comes first. */
  readonly #waiting = new Map<string, Waiter[]>();
  readonly #slowKeys = new LRUCache<string, true>(upTo(maxSlowKeys));
  /** Tasks that take long and still have a place of the others, since too many are slow. */
  readonly #overdue = new Set<Holder>();
  #quick = 0;
  #slow = 0;

  constructor(options: FairPlacesOptions) {
    this.#options = options;
  }

  /** The most tasks at a time. */
  static most(places: number): number {
    return places * (1 + mostSlow);
  }

  /** Takes a place as soon as there is one. @throws the signal's reason */
  async take(key: string, signal: AbortSignal): Promise<FairPlace> {
    signal.throwIfAborted();
    const holder = (this.#waiting.has(key) ? undefined : this.#admit(key)) ?? (await this.#wait(key, signal));
    let isHeld = true;
    return {
      succeeded: () => {
        if (performance.now() - holder.sinceMs < this.#options.slowAfterMs) this.#slowKeys.delete(key);
      },
      [Symbol.dispose]: () => {
        if (isHeld) this.#release(holder);
        isHeld = false;
      },
    };
  }

  #admit(key: string): Holder | undefined {
    const { places, slowAfterMs } = this.#options;
    const isSlow = this.#slowKeys.get(key) === true;
    if ((isSlow ? this.#slow : this.#quick) >= places) return undefined;
    const holder: Holder = { key, sinceMs: performance.now(), isSlow, overdue: undefined };
    if (isSlow) this.#slow += 1;
    else {
      this.#quick += 1;
      holder.overdue = setTimeout(() => this.#isLate(holder), slowAfterMs);
      holder.overdue.unref();
    }
    return holder;
  }

  #isLate(holder: Holder): void {
    this.#slowKeys.set(holder.key, true);
    this.#overdue.add(holder);
    this.#next();
  }

  #release(holder: Holder): void {
    clearTimeout(holder.overdue);
    this.#overdue.delete(holder);
    if (holder.isSlow) this.#slow -= 1;
    else this.#quick -= 1;
    this.#next();
  }

  #next(): void {
    for (const holder of this.#overdue) {
      if (this.#slow >= this.#options.places * mostSlow) break;
      this.#overdue.delete(holder);
      holder.isSlow = true;
      this.#quick -= 1;
      this.#slow += 1;
    }
    // One that still waits then goes to the end, and is reached again as long as there are places.
    for (const [key, waiters] of this.#waiting) {
      const holder = this.#admit(key);
      if (holder === undefined) continue;
      const [first, ...rest] = waiters;
      this.#waiting.delete(key);
      if (rest.length > 0) this.#waiting.set(key, rest);
      first!.give(holder);
    }
  }

  #wait(key: string, signal: AbortSignal): Promise<Holder> {
    const { promise, resolve, reject } = Promise.withResolvers<Holder>();
    const waiter: Waiter = { give: resolve };
    this.#waiting.set(key, [...(this.#waiting.get(key) ?? []), waiter]);
    const leave = (): void => {
      const waiters = this.#waiting.get(key) ?? [];
      // One that has been given a place already takes it.
      if (!waiters.includes(waiter)) return;
      const rest = waiters.filter((other) => other !== waiter);
      if (rest.length === 0) this.#waiting.delete(key);
      else this.#waiting.set(key, rest);
      reject(signal.reason as Error);
    };
    signal.addEventListener('abort', leave, { once: true });
    return promise.finally(() => signal.removeEventListener('abort', leave));
  }
}
