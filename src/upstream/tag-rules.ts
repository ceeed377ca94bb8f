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
