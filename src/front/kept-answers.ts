import { LRUCache } from 'lru-cache';
import type { Generations } from './generations.ts';
import { type KeptAnswer, weightOf } from './kept-answer.ts';

export interface KeptAnswersOptions {
  readonly generations: Generations;
  /** Bound of the memory of all of them. */
  readonly maxBytes: number;
  /** Wall clock in milliseconds. */
  readonly now: () => number;
}

/** The answers that may be given without asking, by the key of the request. The least recently used one goes first. */
export class KeptAnswers {
  readonly #options: KeptAnswersOptions;
  readonly #answers: LRUCache<string, KeptAnswer>;

  constructor(options: KeptAnswersOptions) {
    this.#options = options;
    this.#answers = new LRUCache({ maxSize: options.maxBytes, sizeCalculation: weightOf });
  }

  /** The answer to give now; `undefined` where the request has to be decided. */
  get(key: string): KeptAnswer | undefined {
    const answer = this.#answers.get(key);
    if (answer === undefined) return undefined;
    if (this.#isInTime(answer) && this.#options.generations.isCurrent(answer.stamp)) return answer;
    this.#answers.delete(key);
    return undefined;
  }

  set(key: string, answer: KeptAnswer): void {
    this.#answers.set(key, answer);
  }

  /** The answer could not be given, such as where its file is gone. */
  delete(key: string): void {
    this.#answers.delete(key);
  }

  #isInTime({ sinceMs, untilMs }: KeptAnswer): boolean {
    // The clock is read only where it decides.
    if (untilMs === Number.POSITIVE_INFINITY && sinceMs === 0) return true;
    const nowMs = this.#options.now();
    return nowMs >= sinceMs && nowMs < untilMs;
  }
}
