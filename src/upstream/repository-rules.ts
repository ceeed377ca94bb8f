/** Which repositories an operator lets be pulled; `deny` wins over `allow`, an empty or absent `allow` allows all. */
export interface RepositoryRules {
  readonly allow?: readonly string[];
  readonly deny?: readonly string[];
}

/**
 * Makes the check of a repository's name (without the upstream's) against globs: `*` stands for any characters of one
 * part, `**` for any at all, and a leading or middle `**` followed by `/` for any number of whole parts.
 */
export function repositoryFilter(rules: RepositoryRules): (repository: string) => boolean {
  const allow = (rules.allow ?? []).map(globPattern);
  const deny = (rules.deny ?? []).map(globPattern);
  return (repository) =>
    (allow.length === 0 || allow.some((pattern) => pattern.test(repository))) &&
    !deny.some((pattern) => pattern.test(repository));
}

function globPattern(glob: string): RegExp {
  const source = glob.replaceAll(/\*\*\/|\*\*|\*|[^*]+/g, (token) => {
    if (token === '**/') return '(?:.*/)?';
    if (token === '**') return '.*';
    if (token === '*') return '[^/]*';
    return token.replaceAll(/[\\^$.+?()[\]{}|]/g, '\\$&');
  });
  return new RegExp(`^${source}$`);
}
