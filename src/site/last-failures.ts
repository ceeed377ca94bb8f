import type { Exchange } from '../http/exchange.ts';
import type { Condition } from '../http/operator-routes.ts';
import { hasReason } from '../oci/error.ts';
import { isAvailable, type Upstream } from '../upstream/upstream.ts';

/** A failure that has not recurred for this long is no longer reported. */
const lastsMs = 60_000;

/** Outcomes for which the upstream has answered. */
const answered: ReadonlySet<string | undefined> = new Set(['miss', 'collapsed', 'revalidated', 'bypass']);

/**
 * Upstreams that the last request could not reach. An upstream is left alone only after several failures; that a first pull
 * found no such host is reported first.
 */
export class LastFailures {
  readonly #now: () => number;
  readonly #failures = new Map<string, { readonly message: string; readonly atMs: number }>();

  constructor({ now }: { readonly now: () => number }) {
    this.#now = now;
  }

  /** A request has ended. */
  note({ selection, outcome, failure }: Pick<Exchange, 'selection' | 'outcome' | 'failure'>): void {
    if (selection === undefined) return;
    const { name } = selection.upstream;
    if (failure instanceof Error && hasReason(failure, 'unreachable'))
      this.#failures.set(name, { message: failure.message, atMs: this.#now() });
    else if (failure === undefined && answered.has(outcome)) this.#failures.delete(name);
  }

  /** Why an upstream could not be reached just now; `undefined`: it could, or was not asked. */
  of(upstream: string): string | undefined {
    const found = this.#failures.get(upstream);
    if (found === undefined || this.#now() - found.atMs <= lastsMs) return found?.message;
    this.#failures.delete(upstream);
    return undefined;
  }

  /** @param upstreams those that are left alone have conditions of their own */
  conditions(upstreams: readonly Upstream[]): Condition[] {
    if (this.#failures.size === 0) return [];
    return upstreams.flatMap((upstream): Condition[] => {
      const text = this.of(upstream.name);
      if (text === undefined) return [];
      const status = upstream.status();
      const isToldOf = !isAvailable(status) || status.endpoints.some(({ parts = [] }) => parts.length > 0);
      return isToldOf ? [] : [{ code: 'upstream-failing', text }];
    });
  }
}
