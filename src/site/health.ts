import type { Readiness } from '../http/operator-routes.ts';

/** A fault that has not come again for this long is over. */
const faultLastsMs = 60_000;

/** What is wrong with this replica now, for `/readyz`. */
export class Health {
  readonly #now: () => number;
  readonly #faults = new Map<string, number>();
  readonly #conditions: (() => readonly string[])[] = [];
  #draining = false;

  constructor({ now }: { now: () => number }) {
    this.#now = now;
  }

  /** Something that should work has not. @param reason one sentence from a small set: it is kept */
  fault(reason: string): void {
    this.#faults.set(reason, this.#now());
  }

  /** Takes further reasons from where they are known, each time it is asked. */
  watch(conditions: () => readonly string[]): void {
    this.#conditions.push(conditions);
  }

  /** The process is about to end. */
  drain(): void {
    this.#draining = true;
  }

  readiness(): Readiness {
    for (const [reason, at] of this.#faults) if (this.#now() - at > faultLastsMs) this.#faults.delete(reason);
    const reasons = [...this.#faults.keys(), ...this.#conditions.flatMap((read) => read())];
    if (this.#draining) return { status: 'draining', reasons: ['this mirror is shutting down', ...reasons] };
    return { status: reasons.length > 0 ? 'degraded' : 'ok', reasons };
  }
}
