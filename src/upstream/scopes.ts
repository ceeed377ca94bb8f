const repositoryScope = /^(repository(?:\([a-z0-9]{1,32}\))?):([^\s:]{1,300}(?::\d{1,5}\/[^\s:]{1,300})?):\S+$/;

/** Most scopes of one challenge that are looked at. */
const maxScopes = 10;

/**
 * The repositories of the scopes that a challenge names (separated by spaces), to pull, each once: what else they name is nothing
 * that we need.
 */
export function pullScopes(scopes: string | undefined): string[] {
  const found = (scopes ?? '').split(/\s/, maxScopes).flatMap((scope) => {
    const [, kind, name] = repositoryScope.exec(scope) ?? [];
    return kind === undefined ? [] : [`${kind}:${name}:pull`];
  });
  return [...new Set(found)];
}
