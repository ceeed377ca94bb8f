import { LRUCache } from 'lru-cache';
import type { Coordinator } from '../coordination/coordinator.ts';
import { type ErrorCode, isNotFound, RegistryError } from '../oci/error.ts';
import type { Target } from './fill/sources.ts';

/** A 404 that was not asked for again: the upstream gave it a moment ago. */
export class RememberedAnswer extends RegistryError {
  constructor({ code, message, status, detail, headers }: RegistryError) {
    super(code, message, { status, headers, ...(detail && { detail }) });
  }
}

/** Remembers for a short while what an upstream has said it does not have. */
export class NegativeAnswers {
  readonly #answers: LRUCache<string, RegistryError>;

  readonly #coordinator: Coordinator;
  readonly #kind: string;

  /** @param options `kind`: what it is that does not exist, to tell answers of other replicas apart */
  constructor({ now, coordinator, kind }: { now: () => number; coordinator: Coordinator; kind: string }) {
    this.#coordinator = coordinator;
    this.#kind = kind;
    this.#answers = new LRUCache({ max: 20_000, ttl: 1, perf: { now } });
  }

  /** The 404 given for this a moment ago. */
  get(target: Target, what: string): RememberedAnswer | undefined {
    const answer = this.#answers.get(`${target.key} ${what}`);
    return answer && new RememberedAnswer(answer);
  }

  /** As {@link get}; also what the upstream has told another replica. */
  async lookUp(target: Target, what: string): Promise<RememberedAnswer | undefined> {
    const known = this.get(target, what);
    if (known || this.#coordinator.isAlone || target.upstream.freshness.negativeTtlMs === 0) return known;
    const answer = await this.#coordinator.missing(this.#name(target, what));
    if (answer === undefined) return undefined;
    return new RememberedAnswer(new RegistryError(answer.code as ErrorCode, answer.message, { status: 404 }));
  }

  /** Remembers an error if it says that the thing does not exist. */
  note(target: Target, what: string, error: unknown): void {
    // To be told of it again is no news.
    if (error instanceof RememberedAnswer) return;
    const ttl = target.upstream.freshness.negativeTtlMs;
    if (ttl === 0 || !isNotFound(error)) return;
    const { code, message } = error as RegistryError;
    this.#answers.set(`${target.key} ${what}`, error as RegistryError, { ttl });
    if (this.#coordinator.isAlone) return;
    // Nobody waits for it: the others may as well ask for themselves.
    void this.#coordinator.recordMissing(this.#name(target, what), { code, message }, { forMs: ttl });
  }

  /** The thing has turned up. */
  forget(target: Target, what: string): void {
    this.#answers.delete(`${target.key} ${what}`);
  }

  #name(target: Target, what: string): string {
    return `${this.#kind} ${target.key} ${what}`;
  }
}
