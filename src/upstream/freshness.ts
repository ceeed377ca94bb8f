import { matchesGlob } from '../oci/glob.ts';
import { repositoryFilter } from './repository-rules.ts';
import type { Freshness, TagRule, TagTimes } from './upstream.ts';

/** A rule as configured: plain data. */
export interface TagRuleOptions extends TagTimes {
  /** A pattern for the tag: `*` matches any characters; case-sensitive, as tags are. */
  readonly match: string;
  /** Globs for the upstream's names of repositories; empty: every repository. */
  readonly repositories: readonly string[];
}

/** Compiles a configured rule. */
export function tagRule({ match, repositories, ...times }: TagRuleOptions): TagRule {
  const allows = repositoryFilter({ allow: repositories });
  return { ...times, match, repositories, matches: (repository, tag) => matchesGlob(match, tag) && allows(repository) };
}

/** The times of one tag, and the rule they come from. */
export interface Decision {
  readonly times: TagTimes;
  /** The rule that applies; `undefined` if none matches and the upstream's own times apply. */
  readonly rule: TagRule | undefined;
  /** The position of that rule in the configured list, from 0. */
  readonly position: number | undefined;
}

/** The times of a tag: those of the first rule that matches, else those of the upstream. */
export function decide(freshness: Freshness, { repository, tag }: { repository: string; tag: string }): Decision {
  const position = freshness.tags?.findIndex((rule) => rule.matches(repository, tag)) ?? -1;
  const rule = freshness.tags?.[position];
  return rule ? { times: rule, rule, position } : { times: freshness, rule: undefined, position: undefined };
}

/** The verdict about a record of a tag. */
export type FreshnessVerdict =
  /** Served without asking the upstream. */
  | { readonly kind: 'fresh' }
  /** Served at once; the upstream is asked in the background (RFC 5861, 3). */
  | { readonly kind: 'revalidating' }
  /** To be revalidated; served as it is if the upstream cannot answer (RFC 5861, 4). */
  | { readonly kind: 'stale'; readonly ageSeconds: number }
  /** To be revalidated, and too old to be served instead of an answer. */
  | { readonly kind: 'expired' };

/**
 * Judges a record of a tag by its age. Offline, nothing is too old, because no upstream can be asked.
 * @param record `checkedAtMs`: when the upstream confirmed it, wall clock
 */
export function freshnessOf(
  record: { readonly checkedAtMs: number },
  { now, times, offline }: { now: number; times: TagTimes; offline: boolean },
): FreshnessVerdict {
  const { tagTtlMs, staleWhileRevalidateMs = 0, staleIfErrorMs } = times;
  const ageMs = now - record.checkedAtMs;
  if (offline) return { kind: 'fresh' };
  // After the clock went back, a record may be from the future: it is revalidated, not trusted for ever.
  if (ageMs < 0) return { kind: 'stale', ageSeconds: 0 };
  if (ageMs < tagTtlMs) return { kind: 'fresh' };
  if (ageMs < tagTtlMs + staleWhileRevalidateMs) return { kind: 'revalidating' };
  if (ageMs >= tagTtlMs + staleIfErrorMs) return { kind: 'expired' };
  return { kind: 'stale', ageSeconds: Math.floor(ageMs / 1000) };
}

/** How long ago the registry confirmed what a tag stands for; offline, when that will be again is not known. */
export function ageSecondsOf(
  record: { readonly checkedAtMs: number } | undefined,
  { now, offline }: { readonly now: () => number; readonly offline: boolean },
): { readonly ageSeconds?: number } {
  if (record === undefined || offline) return {};
  return { ageSeconds: Math.max(0, Math.floor((now() - record.checkedAtMs) / 1000)) };
}

/** When the upstream last confirmed a stale tag, and the warning for the client. */
export interface Staleness {
  readonly ageSeconds: number;
  readonly warning: string;
}

/** The headers about a tag that is served past its time. */
export function stalenessOf(upstream: string, ageSeconds: number, error: unknown): Staleness {
  return { ageSeconds, warning: staleWarning(upstream, error) };
}

/** The text of a `Warning: 299` (distribution-spec, "Warnings"): plain ASCII without quotes or backslashes. */
function staleWarning(upstream: string, error: unknown): string {
  const reason = error instanceof Error ? error.message : 'no answer';
  const text = `served from the cache, ${upstream} could not confirm it: ${reason}`;
  return text
    .replaceAll(/["\\]/g, "'")
    .replaceAll(/[^\x20-\x7e]/g, '?')
    .slice(0, 250);
}
