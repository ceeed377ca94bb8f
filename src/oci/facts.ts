import type { Digest } from './digest.ts';

/**
 * Receives each fact that changes, in the turn of the event loop in which it changes. A fact is named by one of the
 * functions below; answers that are kept rest on such facts.
 */
export interface Changes {
  changed(fact: string): void;
  /** Any fact may have changed. */
  changedAll(): void;
  /** A number that is another one once the fact has changed. */
  count(fact: string): number;
}

/** For a part that keeps no answers. */
export const unwatched: Changes = { changed: () => undefined, changedAll: () => undefined, count: () => Number.NaN };

/** That a blob or manifest is stored, as it is recorded. */
export function blobFact(digest: Digest): string {
  return `blob ${digest}`;
}

/** That everything that was here or could be read still is and can. */
export const nothingRemoved = 'nothing removed';

/** That callers are who they were found to be: passwords, keys, keys of tokens and issuers are what they were. */
export const callersFact = 'callers';

/** That a repository may read a digest. @param repository as the cache names it */
export function rightFact(repository: string, digest: Digest): string {
  return `right ${repository} ${digest}`;
}

/** The fact that a tag stands for its digests, in all its variants. @param repository as the cache names it */
export function tagFact(repository: string, tag: string): string {
  return `tag ${repository}:${tag}`;
}

/** That an upstream can be asked, and the pulls that it has left. */
export function upstreamFact(upstream: string): string {
  return `upstream ${upstream}`;
}
