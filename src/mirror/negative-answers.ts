import { LRUCache } from 'lru-cache';
import type { Coordinator } from '../coordination/coordinator.ts';
import { isNotFound, RegistryError } from '../oci/error.ts';
import type { ErrorCode } from '../oci/reason.ts';
import type { Target } from './fill/sources.ts';
import { accessTo } from './sharing/access.ts';

/** A 404 that was not asked for again: the upstream gave it a moment ago. */
export class RememberedAnswer extends RegistryError {
  constructor({ reason, code, message, status, detail, headers }: RegistryError) {
    super(reason, message, { code, status, headers, ...(detail && { detail }) });
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

  /** As {@link get}; also what the upstream has told another replica that asks it in the same way. */
  async lookUp(target: Target, what: string): Promise<RememberedAnswer | undefined> {
    const known = this.get(target, what);
    if (known || this.#coordinator.isAlone || target.upstream.freshness.negativeTtlMs === 0) return known;
    const name = await this.#name(target, what);
    const answer = name === undefined ? undefined : await this.#coordinator.missing(name);
    if (answer === undefined) return undefined;
    return new RememberedAnswer(new RegistryError('not-found', answer.message, { code: answer.code as ErrorCode }));
  }

  /** Remembers an error if it says that the thing does not exist. */
  note(target: Target, what: string, error: unknown): void {
    // To be told of it again is no news.
    if (error instanceof RememberedAnswer) return;
    const ttl = target.upstream.freshness.negativeTtlMs;
    if (ttl === 0 || !isNotFound(error)) return;
    this.#answers.set(`${target.key} ${what}`, error, { ttl });
    // Nobody waits for it: the others may as well ask for themselves.
    void this.#tell(target, what, { error, forMs: ttl });
  }

  /** The thing has turned up. */
  forget(target: Target, what: string): void {
    this.#answers.delete(`${target.key} ${what}`);
  }

  async #tell(
    target: Target,
    what: string,
    { error: { code, message }, forMs }: { error: RegistryError; forMs: number },
  ): Promise<void> {
    const name = await this.#name(target, what);
    if (name !== undefined) await this.#coordinator.recordMissing(name, { code, message }, { forMs });
  }

  /** What the others know it by; `undefined` where there is nobody to share it with. */
  async #name(target: Target, what: string): Promise<string | undefined> {
    const access = await accessTo(target.upstream, this.#coordinator);
    return access && `${this.#kind} ${access} ${target.key} ${what}`;
  }
}
