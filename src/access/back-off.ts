import { LRUCache } from 'lru-cache';

/** Failures of one user at one client after which it has to wait. */
const freeFailures = 5;
/** The first wait, and the longest, in milliseconds. */
const firstWaitMs = 1_000;
const longestWaitMs = 60_000;
/** Failures of one client, whatever users it names: so many at once, and so many a second from then on. */
const clientBurst = 60;
const clientPerSecond = 2;
/** A user that has shown the right password at a client is not held up by other users there for this long. */
const trustedMs = 24 * 3_600_000;

interface Failures {
  count: number;
  untilMs: number;
}

/** How long callers wait after wrong passwords before they may try again. */
export class BackOff {
  readonly #now: () => number;
  // Takes memory as it fills: `max` would take all of it at the start.
  readonly #users = new LRUCache<string, Failures>({ maxSize: 20_000, sizeCalculation: () => 1 });
  readonly #clients = new LRUCache<string, { spent: number; atMs: number }>({
    maxSize: 20_000,
    sizeCalculation: () => 1,
  });
  readonly #trusted: LRUCache<string, number>;

  constructor({ now }: { readonly now: () => number }) {
    this.#now = now;
    this.#trusted = new LRUCache({ maxSize: 20_000, sizeCalculation: () => 1 });
  }

  /** How long a user at a client has to wait, in milliseconds; 0: not at all. */
  waitMs(client: string, user: string): number {
    const nowMs = this.#now();
    const key = keyOf(client, user);
    const ofUser = (this.#users.get(key)?.untilMs ?? 0) - nowMs;
    if (ofUser > 0) return ofUser;
    if ((this.#trusted.get(key) ?? 0) > nowMs) return 0;
    const over = this.#spent(client) - clientBurst;
    return over <= 0 ? 0 : Math.ceil((over / clientPerSecond) * 1000);
  }

  failed(client: string, user: string): void {
    const nowMs = this.#now();
    const key = keyOf(client, user);
    const failures = this.#users.get(key) ?? { count: 0, untilMs: 0 };
    failures.count += 1;
    const beyond = failures.count - freeFailures;
    if (beyond >= 0) failures.untilMs = nowMs + Math.min(longestWaitMs, firstWaitMs * 2 ** beyond);
    this.#users.set(key, failures);
    this.#clients.set(client, { spent: this.#spent(client) + 1, atMs: nowMs });
  }

  succeeded(client: string, user: string): void {
    const key = keyOf(client, user);
    this.#users.delete(key);
    this.#trusted.set(key, this.#now() + trustedMs);
  }

  #spent(client: string): number {
    const { spent, atMs } = this.#clients.get(client) ?? { spent: 0, atMs: 0 };
    return Math.max(0, spent - ((this.#now() - atMs) / 1000) * clientPerSecond);
  }
}

function keyOf(client: string, user: string): string {
  return `${client} ${user.slice(0, 200)}`;
}
