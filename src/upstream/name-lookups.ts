import type { LookupAddress, LookupAllOptions } from 'node:dns';
import { LRUCache } from 'lru-cache';
import { upTo } from '../oci/lru-bound.ts';

/** The system's name resolution; returns all addresses. */
export type SystemLookup = (hostname: string, options: LookupAllOptions, callback: LookupCallback) => void;

type LookupCallback = (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void;

/** A look-up that waits for its turn longer than any connection does, in milliseconds, is not made any more. */
const maxTurnMs = 15_000;

export interface NameLookupsOptions {
  /** Names that are looked up at a time. */
  readonly atATime: number;
  /** After so long, in milliseconds, the addresses that a name had before do as well. */
  readonly patienceMs?: number;
}

interface Asked {
  readonly hostname: string;
  readonly options: LookupAllOptions;
  readonly callbacks: LookupCallback[];
  readonly sinceMs: number;
  isRunning: boolean;
}

/**
 * Looks names up, each once at a time and few at a time. The system does it in threads that all upstreams share, and holds one
 * for as long as the servers of a name do not answer; nothing ends that.
 */
export class NameLookups {
  readonly #lookup: SystemLookup;
  readonly #atATime: number;
  readonly #patienceMs: number;
  /** By name and options, in the order of asking. */
  readonly #asked = new Map<string, Asked>();
  readonly #known = new LRUCache<string, LookupAddress[]>(upTo(100));
  #running = 0;

  constructor(lookup: SystemLookup, { atATime, patienceMs = 1_000 }: NameLookupsOptions) {
    this.#lookup = lookup;
    this.#atATime = atATime;
    this.#patienceMs = patienceMs;
  }

  /** As the system's look-up; where it does not answer soon, with the addresses that it gave before. */
  find(hostname: string, options: LookupAllOptions, callback: LookupCallback): void {
    const key = JSON.stringify([hostname, options.family, options.hints]);
    const known = this.#known.get(key);
    let isAnswered = false;
    const answer: LookupCallback = (...found) => {
      clearTimeout(timer);
      if (!isAnswered) callback(...found);
      isAnswered = true;
    };
    const timer = known && setTimeout(() => answer(null, known), this.#patienceMs);
    const asked = this.#asked.get(key) ?? this.#ask(key, { hostname, options });
    asked.callbacks.push(answer);
    this.#next();
  }

  #ask(key: string, { hostname, options }: Pick<Asked, 'hostname' | 'options'>): Asked {
    const asked: Asked = { hostname, options, callbacks: [], sinceMs: performance.now(), isRunning: false };
    this.#asked.set(key, asked);
    return asked;
  }

  #next(): void {
    for (const [key, asked] of this.#asked) {
      if (this.#running >= this.#atATime) return;
      if (asked.isRunning) continue;
      if (performance.now() - asked.sinceMs > maxTurnMs) this.#end(key, [timedOut(), []]);
      else this.#run(key, asked);
    }
  }

  #run(key: string, asked: Asked): void {
    asked.isRunning = true;
    this.#running += 1;
    this.#lookup(asked.hostname, asked.options, (error, addresses) => {
      this.#running -= 1;
      if (!error) this.#known.set(key, addresses);
      this.#end(key, [error, addresses]);
      this.#next();
    });
  }

  #end(key: string, found: Parameters<LookupCallback>): void {
    const asked = this.#asked.get(key);
    this.#asked.delete(key);
    for (const callback of asked?.callbacks ?? []) callback(...found);
  }
}

function timedOut(): NodeJS.ErrnoException {
  return Object.assign(new Error('the look-up did not get its turn'), { code: 'ETIMEOUT' });
}
