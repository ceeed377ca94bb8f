/** A scope: `repository:docker.io/library/alpine:pull,push`. */
export interface Grant {
  /** `repository` or `registry`; others are kept and mean nothing here. */
  readonly type: string;
  readonly name: string;
  readonly actions: readonly string[];
}

/** Most grants of one token, and longest scope that is read, in characters: real clients ask for one or two. */
const maxGrants = 32;
const maxScopeLength = 600;

/**
 * Reads what a token is asked for (distribution, "Token Scope Documentation"): each value may hold several scopes with
 * spaces between, and a name may hold a port. What cannot be read is left out.
 */
export function parseScopes(values: readonly string[]): readonly Grant[] {
  const grants: Grant[] = [];
  for (const scope of values.flatMap((value) => value.split(' '))) {
    const first = scope.indexOf(':');
    const last = scope.lastIndexOf(':');
    if (first === -1 || last === first || scope.length > maxScopeLength || grants.length >= maxGrants) continue;
    // A class, as in `repository(plugin)`, changes nothing.
    const [type = ''] = scope.slice(0, first).split('(', 1);
    const actions = scope
      .slice(last + 1)
      .split(',')
      .filter((action) => /^(?:[a-z]{1,20}|\*)$/.test(action));
    grants.push({ type, name: scope.slice(first + 1, last), actions });
  }
  return grants;
}

/** The scope of a token that lists repositories (distribution, "Token Scope Documentation", `registry`). */
export const listingScope = 'registry:catalog:*';

/** Whether grants cover lists of all repositories. */
export function isListingGranted(grants: readonly Grant[]): boolean {
  return grants.some(({ type, name, actions }) => type === 'registry' && name === 'catalog' && actions.includes('*'));
}

/** Whether grants cover an action on one of the names of a repository. */
export function isGranted(grants: readonly Grant[], action: string, names: readonly string[]): boolean {
  return grants.some(
    ({ type, name, actions }) =>
      type === 'repository' && names.includes(name) && (actions.includes(action) || actions.includes('*')),
  );
}
