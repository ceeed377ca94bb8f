import { setTimeout as sleep } from 'node:timers/promises';
import type { RedisClock } from './clock.ts';
import type { MissingAnswer, SharedTag, SharedTagKey, TagClaim } from './coordinator.ts';
import type { Link } from './redis.ts';
import { claimTagScript, recordTagScript, skewMs, valueScript } from './scripts.ts';
import type { Seal } from './seal.ts';

/** How long one replica may take to ask an upstream before another one tries, in milliseconds. */
const checkMs = 5_000;
const firstWaitMs = 15;
const longestWaitMs = 120;

export interface AnswersOptions {
  readonly link: Link;
  readonly seal: Seal;
  readonly clock: RedisClock;
  readonly self: () => string;
}

// The times inside are sealed too: otherwise anyone who can write to Redis could present an old answer as new.
type SealedTag = SharedTag & { readonly atMs: number };
type SealedMissing = MissingAnswer & { readonly atMs: number; readonly untilMs: number };

/** The answers of upstreams about tags, and their 404s: one replica asks, all know. */
export class Answers {
  readonly #options: AnswersOptions;

  constructor(options: AnswersOptions) {
    this.#options = options;
  }

  async claimTag(
    key: SharedTagKey,
    { maxAgeMs, signal }: { maxAgeMs: number; signal: AbortSignal },
  ): Promise<TagClaim> {
    const { link, seal, clock, self } = this.#options;
    const deadlineMs = performance.now() + checkMs;
    for (let waitMs = firstWaitMs; performance.now() < deadlineMs; waitMs = Math.min(waitMs * 2, longestWaitMs)) {
      const answer = await link.run(claimTagScript, keysOf(key), [self(), maxAgeMs, checkMs]);
      const [kind, sealed] = answer as [string, string?];
      if (kind === 'ours') return { kind };
      if (kind === 'known') {
        const found = seal.open(contextOf(key), sealed) as SealedTag | undefined;
        // Written by a stranger or long ago: treated as absent, without waiting for it.
        if (found === undefined) return { kind: 'alone' };
        const { atMs, ...tag } = found;
        const ageMs = clock.nowMs - atMs;
        if (ageMs < -2 * skewMs || ageMs >= maxAgeMs + skewMs) return { kind: 'alone' };
        return { kind, tag: { ...tag, ageMs: Math.max(0, ageMs) } };
      }
      await sleep(waitMs, undefined, { signal });
    }
    return { kind: 'alone' };
  }

  async recordTag(key: SharedTagKey, tag: SharedTag, { forMs }: { forMs: number }): Promise<void> {
    const { link, seal, clock, self } = this.#options;
    const atMs = clock.nowMs - Math.round(tag.ageMs);
    const sealed = seal.close(contextOf(key), { ...tag, atMs } satisfies SealedTag);
    await link.run(recordTagScript, keysOf(key), [self(), sealed, atMs, Math.max(1, forMs)]);
  }

  async leaveTag(key: SharedTagKey): Promise<void> {
    await this.#options.link.run(recordTagScript, keysOf(key), [this.#options.self(), '', 0, 0]);
  }

  async missing(what: string): Promise<MissingAnswer | undefined> {
    const { link, seal, clock } = this.#options;
    const sealed = await link.run(valueScript, [`missing:{${what}}`], ['']);
    const found = seal.open(`missing ${what}`, sealed) as SealedMissing | undefined;
    if (found === undefined || found.atMs > clock.nowMs + 2 * skewMs || found.untilMs <= clock.nowMs) return undefined;
    return { code: found.code, message: found.message };
  }

  async recordMissing(what: string, { code, message }: MissingAnswer, { forMs }: { forMs: number }): Promise<void> {
    const { link, seal, clock } = this.#options;
    const atMs = clock.nowMs;
    const answer: SealedMissing = { code, message, atMs, untilMs: atMs + forMs };
    await link.run(valueScript, [`missing:{${what}}`], [seal.close(`missing ${what}`, answer), Math.max(1, forMs)]);
  }
}

function keysOf(key: SharedTagKey): string[] {
  const name = `{${key.access}:${key.repository}:${key.tag}:${key.variant}}`;
  return [`tag:${name}`, `check:${name}`];
}

function contextOf({ access, repository, tag, variant }: SharedTagKey): string {
  return `tag ${access} ${repository}:${tag} ${variant}`;
}
