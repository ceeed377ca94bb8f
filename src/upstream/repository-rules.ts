import { repositoryGlob } from '../oci/glob.ts';

/** The repositories that the operator allows; `deny` wins over `allow`, an empty or absent `allow` allows all. */
export interface RepositoryRules {
  readonly allow?: readonly string[];
  readonly deny?: readonly string[];
}

/** Creates the check of a repository's name (without the upstream's) against globs, see {@link repositoryGlob}. */
export function repositoryFilter(rules: RepositoryRules): (repository: string) => boolean {
  const allow = (rules.allow ?? []).map(repositoryGlob);
  const deny = (rules.deny ?? []).map(repositoryGlob);
  return (repository) =>
    (allow.length === 0 || allow.some((matches) => matches(repository))) &&
    !deny.some((matches) => matches(repository));
}
