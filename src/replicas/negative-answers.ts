import { LRUCache } from 'lru-cache';
import type { Coordinator } from '../coordination/coordinator.ts';
import { isNotFound, RegistryError } from '../oci/error.ts';
import type { ErrorCode } from '../oci/reason.ts';
import { SecondHandAbsence } from '../upstream/failures.ts';
import type { Repository } from '../upstream/repository.ts';
import { accessTo } from './replicas.ts';

/** A 404 that was not asked for again: the upstream gave it a moment ago. */
export class RememberedAnswer extends RegistryError {
  constructor({ reason, code, message, status, detail, headers }: RegistryError) {
    super(reason, message, { code, status, headers, ...(detail && { detail }) });
  }
}

export interface NegativeAnswersOptions {
  /** Wall clock in milliseconds. */
  readonly now: () => number;
  readonly coordinator: Coordinator;
  readonly kind: string;
}

/** Answers that are remembered, if their names are no longer than usual, in characters. */
const maxAnswers = 20_000;
const usualCharacters = 400;

/** Remembers for a short while what an upstream has said it does not have. */
export class NegativeAnswers {
  readonly #answers: LRUCache<string, RegistryError>;

  readonly #coordinator: Coordinator;
  readonly #kind: string;

  /** @param options `kind`: what it is that does not exist, to tell answers of other replicas apart */
  constructor({ now, coordinator, kind }: NegativeAnswersOptions) {
    this.#coordinator = coordinator;
    this.#kind = kind;
    const sizeCalculation = (_: RegistryError, key: string): number => Math.max(usualCharacters, key.length);
    this.#answers = new LRUCache({ maxSize: maxAnswers * usualCharacters, sizeCalculation, ttl: 1, perf: { now } });
  }

  /** The 404 given for this a moment ago. */
  get(repository: Repository, what: string): RememberedAnswer | undefined {
    const answer = this.#answers.get(`${repository.key} ${what}`);
    return answer && new RememberedAnswer(answer);
  }

  /** As {@link get}; also what the upstream has told another replica that asks it in the same way. */
  async lookUp(repository: Repository, what: string): Promise<RememberedAnswer | undefined> {
    const known = this.get(repository, what);
    if (known || this.#coordinator.isAlone || repository.upstream.freshness.negativeTtlMs === 0) return known;
    const name = await this.#name(repository, what);
    const answer = name === undefined ? undefined : await this.#coordinator.missing(name);
    if (answer === undefined) return undefined;
    return new RememberedAnswer(new RegistryError('not-found', answer.message, { code: answer.code as ErrorCode }));
  }

  /** Remembers an error if it says that the thing does not exist. */
  note(repository: Repository, what: string, error: unknown): void {
    // A remembered answer is no news.
    if (error instanceof RememberedAnswer || error instanceof SecondHandAbsence) return;
    const ttl = repository.upstream.freshness.negativeTtlMs;
    if (ttl === 0 || !isNotFound(error)) return;
    this.#answers.set(`${repository.key} ${what}`, error, { ttl });
    // In the background: otherwise the others ask for themselves.
    void this.#tell(repository, what, { error, forMs: ttl });
  }

  /** The thing has turned up. */
  forget(repository: Repository, what: string): void {
    this.#answers.delete(`${repository.key} ${what}`);
  }

  async #tell(
    repository: Repository,
    what: string,
    { error: { code, message }, forMs }: { error: RegistryError; forMs: number },
  ): Promise<void> {
    const name = await this.#name(repository, what);
    if (name !== undefined) await this.#coordinator.recordMissing(name, { code, message }, { forMs });
  }

  /** The name that the other replicas know it by; `undefined` if there is no replica to share it with. */
  async #name(repository: Repository, what: string): Promise<string | undefined> {
    const access = await accessTo(repository.upstream, this.#coordinator);
    return access && `${this.#kind} ${access} ${repository.key} ${what}`;
  }
}
