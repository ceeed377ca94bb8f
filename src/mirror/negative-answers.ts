import { LRUCache } from 'lru-cache';
import { isNotFound, RegistryError } from '../oci/error.ts';
import type { Target } from './sources.ts';

/** A 404 that was not asked for again: the upstream gave it a moment ago. */
export class RememberedAnswer extends RegistryError {
  constructor({ code, message, status, detail, headers }: RegistryError) {
    super(code, message, { status, headers, ...(detail && { detail }) });
  }
}

/** Remembers for a short while what an upstream has said it does not have. */
export class NegativeAnswers {
  readonly #answers: LRUCache<string, RegistryError>;

  constructor({ now }: { now: () => number }) {
    this.#answers = new LRUCache({ max: 20_000, ttl: 1, perf: { now } });
  }

  /** The 404 given for this a moment ago. */
  get(target: Target, what: string): RememberedAnswer | undefined {
    const answer = this.#answers.get(`${target.key} ${what}`);
    return answer && new RememberedAnswer(answer);
  }

  /** Remembers an error if it says that the thing does not exist. */
  note(target: Target, what: string, error: unknown): void {
    // To be told of it again is no news.
    if (error instanceof RememberedAnswer) return;
    const ttl = target.upstream.freshness.negativeTtlMs;
    if (ttl > 0 && isNotFound(error)) this.#answers.set(`${target.key} ${what}`, error as RegistryError, { ttl });
  }

  /** The thing has turned up. */
  forget(target: Target, what: string): void {
    this.#answers.delete(`${target.key} ${what}`);
  }
}
