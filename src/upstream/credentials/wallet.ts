import { LRUCache } from 'lru-cache';
import { RegistryError } from '../../oci/error.ts';
import { pauseOf } from '../failures.ts';
import type { Heard, Passage } from '../passage.ts';
import { isCurrent, type RateLimit, readRateLimit } from '../rate-limit.ts';
import type { CredentialSource } from './source.ts';

/** How long a credential that did not give a repository is the last choice for it, in milliseconds. */
const deniedMs = 600_000;
const maxDenied = 1_000;

/** The status of one of the credentials of an upstream. */
export interface CredentialStatus {
  /** Where it comes from, in words without any secret. */
  readonly name: string;
  /** `limited`: the upstream asked for a pause, and the others are used until `untilMs`. */
  readonly state: 'available' | 'limited';
  /** Wall clock in milliseconds; only of a limited one. */
  readonly untilMs?: number;
  /** Requests that it was sent with. */
  readonly requests: number;
  /** Pulls that the upstream says it has left; absent where it has not said. */
  readonly remaining?: number;
  /** When it expires, as far as it says; wall clock in milliseconds. */
  readonly expiresAtMs?: number;
  /** Why it could not be renewed, without secrets. */
  readonly failure?: string;
}

/** A credential that was tried. */
export interface TriedCredential {
  /** In words without any secret. */
  readonly name: string;
  /** Whether there is one; otherwise requests are anonymous. */
  readonly isThere: boolean;
  /** Why it cannot be had, without secrets. */
  readonly failure?: string;
}

/** One credential, or none: what a request is sent with. */
export class Slot {
  /** In words without any secret. */
  readonly name: string;
  /** Absent: anonymous. */
  readonly source: CredentialSource | undefined;
  requests = 0;
  limitedUntilMs = 0;
  rateLimit: RateLimit | undefined;
  /** Repositories that it did not give, and until when it is the last choice for them. */
  readonly denied = new LRUCache<string, number>({ max: maxDenied });

  constructor(name: string, source: CredentialSource | undefined) {
    this.name = name;
    this.source = source;
  }
}

/**
 * The credentials of one endpoint. The one that was used least comes first; one that the upstream limits rests while
 * there are others.
 */
export class Wallet {
  readonly slots: readonly Slot[];
  readonly #now: () => number;

  /** @param slots at least one */
  constructor(slots: readonly Slot[], { now }: { readonly now: () => number }) {
    this.slots = slots;
    this.#now = now;
  }

  /** The one for the next request; `undefined` where all have been tried. */
  pick(repository: string, tried: ReadonlySet<Slot>): Slot | undefined {
    const left = this.slots.filter((slot) => !tried.has(slot));
    const rank = (slot: Slot): number => (this.#isLimited(slot) ? 2 : 0) + (this.#isDenied(slot, repository) ? 1 : 0);
    return left.toSorted((a, b) => rank(a) - rank(b) || a.requests - b.requests)[0];
  }

  /** A credential does not give a repository. */
  denied(slot: Slot, repository: string): void {
    slot.denied.set(repository, this.#now() + deniedMs);
  }

  /** Whether another credential can take over from one that is limited now. */
  hasOther(slot: Slot): boolean {
    return this.slots.some((other) => other !== slot && !this.#isLimited(other));
  }

  /**
   * Learns from the answer to a request. What limits one credential closes no gate while there are others; when all are
   * limited, the gate opens with the first of them.
   */
  watch(passage: Passage, slot: Slot): Passage {
    if (this.slots.length === 1) return passage;
    return {
      answered: (answer) => passage.answered(this.#heard(slot, answer)),
      failed: (error, event) => passage.failed(error, event),
      ...(passage.receiving && { receiving: passage.receiving }),
      [Symbol.dispose]: () => passage[Symbol.dispose](),
    };
  }

  /** The pulls that the best of the credentials has left; `undefined` where one has not said. */
  get rateLimit(): RateLimit | undefined {
    const limits = this.slots.map(({ rateLimit }) => rateLimit);
    const known = limits.filter((limit) => limit !== undefined && isCurrent(limit, this.#now()));
    if (known.length < this.slots.length) return undefined;
    return known.toSorted((a, b) => b!.remaining - a!.remaining)[0];
  }

  /** Obtains each credential once. @throws the signal's reason */
  async tryAll({ signal }: { readonly signal: AbortSignal }): Promise<readonly TriedCredential[]> {
    const tried: TriedCredential[] = [];
    for (const { name, source } of this.slots) {
      if (source === undefined) continue;
      try {
        tried.push({ name, isThere: (await source.get({ signal })) !== undefined });
      } catch (error) {
        if (!(error instanceof RegistryError)) throw error;
        tried.push({ name, isThere: false, failure: error.message });
      }
    }
    return tried;
  }

  status(): readonly CredentialStatus[] {
    return this.slots
      .filter(({ source }) => source !== undefined)
      .map((slot) => ({
        name: slot.name,
        ...(this.#isLimited(slot) ? { state: 'limited', untilMs: slot.limitedUntilMs } : { state: 'available' }),
        requests: slot.requests,
        ...(slot.rateLimit && isCurrent(slot.rateLimit, this.#now()) && { remaining: slot.rateLimit.remaining }),
        ...slot.source?.status(),
      }));
  }

  #heard(slot: Slot, answer: Heard): Heard {
    const now = this.#now();
    slot.rateLimit = readRateLimit(answer.headers, now) ?? slot.rateLimit;
    const pauseMs = pauseOf({ ...answer, retryAfter: answer.headers['retry-after'] }, now);
    if (pauseMs === undefined) return answer;
    slot.limitedUntilMs = now + pauseMs;
    if (this.hasOther(slot)) return { ...answer, status: 200 };
    const firstMs = Math.min(...this.slots.map(({ limitedUntilMs }) => limitedUntilMs));
    const seconds = String(Math.max(1, Math.ceil((firstMs - now) / 1000)));
    return { ...answer, headers: { ...answer.headers, 'retry-after': seconds } };
  }

  #isLimited(slot: Slot): boolean {
    return slot.limitedUntilMs > this.#now();
  }

  #isDenied(slot: Slot, repository: string): boolean {
    return (slot.denied.get(repository) ?? 0) > this.#now();
  }
}
