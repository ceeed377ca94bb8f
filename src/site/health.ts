import type { Condition, Readiness } from '../http/operator-routes.ts';

/** A fault that has not recurred for this long is over. */
const faultLastsMs = 60_000;

/** The conditions of this replica, for `/readyz`. */
export class Health {
  readonly #now: () => number;
  readonly #faults = new Map<string, { readonly condition: Condition; readonly atMs: number }>();
  readonly #conditions: (() => readonly Condition[])[] = [];
  #draining = false;

  constructor({ now }: { now: () => number }) {
    this.#now = now;
  }

  /** Records a failure. @param condition its text is from a small set, because it is kept */
  fault(condition: Condition): void {
    this.#faults.set(condition.text, { condition, atMs: this.#now() });
  }

  /** Adds a source of further conditions, which is asked each time. */
  watch(conditions: () => readonly Condition[]): void {
    this.#conditions.push(conditions);
  }

  /** The process is about to end. */
  drain(): void {
    this.#draining = true;
  }

  readiness(): Readiness {
    for (const [text, { atMs }] of this.#faults) if (this.#now() - atMs > faultLastsMs) this.#faults.delete(text);
    const faults = [...this.#faults.values()].map(({ condition }) => condition);
    const conditions = [...faults, ...this.#conditions.flatMap((read) => read())];
    if (this.#draining) {
      const draining: Condition = { code: 'shutting-down', text: 'this mirror is shutting down' };
      return { status: 'draining', conditions: [draining, ...conditions] };
    }
    return { status: conditions.length > 0 ? 'degraded' : 'ok', conditions };
  }
}
