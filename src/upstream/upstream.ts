import type { UpstreamClient } from './client.ts';

/** How long what an upstream said of a tag holds, in milliseconds. */
export interface TagTimes {
  /** How long a tag → digest answer is used without asking. */
  readonly tagTtlMs: number;
  /** How long past that it is still served at once, while the upstream is asked behind it; absent: not at all. */
  readonly staleWhileRevalidateMs?: number;
  /** How long past `tagTtlMs` it may be served when the upstream cannot answer. */
  readonly staleIfErrorMs: number;
}

/** Times of their own for some tags. */
export interface TagRule extends TagTimes {
  /** The patterns, as configured. */
  readonly match: string;
  readonly repositories: readonly string[];
  matches(repository: string, tag: string): boolean;
}

/** How long what an upstream said holds, in milliseconds. */
export interface Freshness extends TagTimes {
  /** How long a 404 is remembered. */
  readonly negativeTtlMs: number;
  /** The first that matches a tag decides in place of the times above. */
  readonly tags?: readonly TagRule[];
}

/** A registry we pull from. */
export interface Upstream {
  /** Its canonical name (`docker.io`), the first part of every repository's key in the cache. */
  readonly name: string;
  /** Other names that clients use for it. */
  readonly aliases: readonly string[];
  /** Values of a request's `Host` that mean it. */
  readonly hosts: readonly string[];
  readonly freshness: Freshness;
  /** How long it may take to answer, all its URLs, tokens and redirects together, in milliseconds. */
  readonly answerMs: number;
  /** Connections that one large blob may be fetched with at a time. */
  readonly connectionsPerBlob: number;
  /** Whether the operator lets this repository be pulled. */
  allows(repository: string): boolean;
  readonly client: UpstreamClient;
}
