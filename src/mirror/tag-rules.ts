import { matchesGlob } from '../oci/glob.ts';
import { repositoryFilter } from '../upstream/repository-rules.ts';
import type { Freshness, TagRule, TagTimes } from '../upstream/upstream.ts';

/** A rule as it is configured: plain data. */
export interface TagRuleOptions extends TagTimes {
  /** Over the tag: `*` stands for any characters; upper and lower case differ, as in tags. */
  readonly match: string;
  /** Globs over the upstream's names of repositories; none: every repository. */
  readonly repositories: readonly string[];
}

/** Makes a rule out of its configuration. */
export function tagRule({ match, repositories, ...times }: TagRuleOptions): TagRule {
  const allows = repositoryFilter({ allow: repositories });
  return { ...times, match, repositories, matches: (repository, tag) => matchesGlob(match, tag) && allows(repository) };
}

/** What holds for one tag, and by which rule. */
export interface Decision {
  readonly times: TagTimes;
  /** The rule that decided; `undefined` where none matches and the upstream's own times hold. */
  readonly rule: TagRule | undefined;
  /** The place of that rule in the configured list, from 0. */
  readonly position: number | undefined;
}

/** The times of a tag: those of the first rule that matches, else those of the upstream. */
export function decide(freshness: Freshness, { repository, tag }: { repository: string; tag: string }): Decision {
  const position = freshness.tags?.findIndex((rule) => rule.matches(repository, tag)) ?? -1;
  const rule = freshness.tags?.[position];
  return rule ? { times: rule, rule, position } : { times: freshness, rule: undefined, position: undefined };
}
