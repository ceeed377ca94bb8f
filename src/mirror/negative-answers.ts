import { LRUCache } from 'lru-cache';
import { isNotFound, type RegistryError } from '../oci/error.ts';
import type { Target } from './sources.ts';

/** Remembers for a short while what an upstream has said it does not have. */
export class NegativeAnswers {
  readonly #answers: LRUCache<string, RegistryError>;

  constructor({ now }: { now: () => number }) {
    this.#answers = new LRUCache({ max: 20_000, ttl: 1, perf: { now } });
  }

  /** The 404 given for this a moment ago. */
  get(target: Target, what: string): RegistryError | undefined {
    return this.#answers.get(`${target.key} ${what}`);
  }

  /** Remembers an error if it says that the thing does not exist. */
  note(target: Target, what: string, error: unknown): void {
    const ttl = target.upstream.freshness.negativeTtlMs;
    if (ttl > 0 && isNotFound(error)) this.#answers.set(`${target.key} ${what}`, error as RegistryError, { ttl });
  }

  /** The thing has turned up. */
  forget(target: Target, what: string): void {
    this.#answers.delete(`${target.key} ${what}`);
  }
}
