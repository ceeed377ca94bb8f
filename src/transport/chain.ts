import { AsyncLocalStorage } from 'node:async_hooks';
import { randomBytes } from 'node:crypto';

/** A chain with more mirrors than this is taken for a loop: replicas of one mirror have names of their own. */
const maxMirrors = 8;
/** The part of its time that each mirror keeps, for the way back and for what it can give without an answer. */
const ownMs = 1000;
/** Longest `CDN-Loop` that is read, in characters. */
const maxHeaderLength = 2_000;

/**
 * This mirror's place in a chain of mirrors. Each adds its name to `CDN-Loop` (RFC 8586) of what it asks for a request,
 * so that one which is asked through itself can say so at once.
 */
export class Chain {
  /** This mirror in `CDN-Loop`. */
  readonly name = `millpond-${randomBytes(6).toString('hex')}`;
  readonly #before = new AsyncLocalStorage<{ readonly names: string; readonly endsAtMs: number }>();

  /** Whether a request has come through this mirror before, or through too many. @param header its `CDN-Loop` */
  isLoop(header: string): boolean {
    const names = header
      .slice(0, maxHeaderLength)
      .split(',')
      .map((part) => part.split(';', 1)[0]?.trim());
    return names.includes(this.name) || names.filter((name) => name?.startsWith('millpond-')).length >= maxMirrors;
  }

  /** Runs work for a request that came through other mirrors. @param waitMs how long the last of them waits for it */
  run<Result>(header: string, { waitMs, work }: { readonly waitMs: number; readonly work: () => Result }): Result {
    return this.#before.run({ names: header.slice(0, maxHeaderLength), endsAtMs: performance.now() + waitMs }, work);
  }

  /** How long those that are asked for the request under way may take, less what this mirror needs, in milliseconds. */
  get leftMs(): number {
    const endsAtMs = this.#before.getStore()?.endsAtMs ?? Number.POSITIVE_INFINITY;
    return Math.max(ownMs, endsAtMs - performance.now() - ownMs);
  }

  /** The `CDN-Loop` of what is asked for the request under way. */
  get header(): string {
    const before = this.#before.getStore();
    return before === undefined ? this.name : `${before.names}, ${this.name}`;
  }
}
