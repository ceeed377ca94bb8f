import { setTimeout as sleep } from 'node:timers/promises';
import type { MissingAnswer, SharedTag, SharedTagKey, TagClaim } from './coordinator.ts';
import type { Link } from './redis.ts';
import { claimTagScript, recordTagScript, valueScript } from './scripts.ts';
import type { Seal } from './seal.ts';

/** How long one replica may take to ask an upstream before another one tries, in milliseconds. */
const checkMs = 5_000;
const firstWaitMs = 15;
const longestWaitMs = 120;

export interface AnswersOptions {
  readonly link: Link;
  readonly seal: Seal;
  readonly self: () => string;
}

/** What upstreams have said of tags, and what they do not have: asked by one replica, known to all. */
export class Answers {
  readonly #options: AnswersOptions;

  constructor(options: AnswersOptions) {
    this.#options = options;
  }

  async claimTag(
    key: SharedTagKey,
    { maxAgeMs, signal }: { maxAgeMs: number; signal: AbortSignal },
  ): Promise<TagClaim> {
    const { link, seal, self } = this.#options;
    const deadlineMs = performance.now() + checkMs;
    for (let waitMs = firstWaitMs; performance.now() < deadlineMs; waitMs = Math.min(waitMs * 2, longestWaitMs)) {
      const answer = await link.run(claimTagScript, keysOf(key), [self(), maxAgeMs, checkMs]);
      const [kind, sealed, age] = answer as [string, string?, string?];
      if (kind === 'ours') return { kind };
      if (kind === 'known') {
        const tag = seal.open(contextOf(key), sealed) as SharedTag | undefined;
        // Written by somebody who is not of us: as if it were not there, and nobody is asked to wait for it.
        return tag ? { kind, tag: { ...tag, ageMs: Number(age) } } : { kind: 'alone' };
      }
      await sleep(waitMs, undefined, { signal });
    }
    return { kind: 'alone' };
  }

  async recordTag(key: SharedTagKey, tag: SharedTag, { forMs }: { forMs: number }): Promise<void> {
    const { link, seal, self } = this.#options;
    await link.run(recordTagScript, keysOf(key), [
      self(),
      seal.close(contextOf(key), tag),
      tag.ageMs,
      Math.max(1, forMs),
    ]);
  }

  async leaveTag(key: SharedTagKey): Promise<void> {
    await this.#options.link.run(recordTagScript, keysOf(key), [this.#options.self(), '', 0, 0]);
  }

  async missing(what: string): Promise<MissingAnswer | undefined> {
    const { link, seal } = this.#options;
    const sealed = await link.run(valueScript, [`missing:{${what}}`], ['']);
    return seal.open(`missing ${what}`, sealed) as MissingAnswer | undefined;
  }

  async recordMissing(what: string, answer: MissingAnswer, { forMs }: { forMs: number }): Promise<void> {
    const { link, seal } = this.#options;
    await link.run(valueScript, [`missing:{${what}}`], [seal.close(`missing ${what}`, answer), Math.max(1, forMs)]);
  }
}

function keysOf(key: SharedTagKey): string[] {
  const name = `{${key.repository}:${key.tag}:${key.variant}}`;
  return [`tag:${name}`, `check:${name}`];
}

function contextOf({ repository, tag, variant }: SharedTagKey): string {
  return `tag ${repository}:${tag} ${variant}`;
}
