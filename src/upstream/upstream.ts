import type { UpstreamClient } from './client.ts';

/** How long what an upstream said holds, in milliseconds. */
export interface Freshness {
  /** How long a tag → digest answer is used without asking. */
  readonly tagTtlMs: number;
  /** How long past that it may be served when the upstream cannot answer. */
  readonly staleIfErrorMs: number;
  /** How long a 404 is remembered. */
  readonly negativeTtlMs: number;
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
