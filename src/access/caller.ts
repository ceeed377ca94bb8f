/** An action on a repository. `search`: see its name in catalogs and search results. */
export type Action = 'pull' | 'push' | 'delete' | 'search' | 'administer';

/**
 * How a caller has shown who it is. `user`: by a password, or a token of an issuer; `guest`: by credentials of an upstream,
 * which only that upstream can judge.
 */
export type CallerKind = 'anonymous' | 'user' | 'certificate' | 'key' | 'guest';

/** The limit of the rights of a key or a guest, regardless of the policies. */
export interface KeyScope {
  /** Patterns of repositories. */
  readonly repositories: readonly string[];
  readonly actions: readonly Action[];
}

/** The caller. One object stands for one identity at one address for as long as it is remembered. */
export interface Caller {
  readonly kind: CallerKind;
  /** For policies, logs and messages; `anonymous` where nothing was shown. */
  readonly name: string;
  readonly groups: readonly string[];
  /** The claims of an issuer about the caller. */
  readonly claims: Readonly<Record<string, unknown>>;
  /** Where the request comes from. */
  readonly address: string;
  /** Of keys and guests. */
  readonly scope?: KeyScope | undefined;
}

/** The caller that has shown nothing. */
export function anonymousCaller(address: string): Caller {
  return { kind: 'anonymous', name: 'anonymous', groups: [], claims: {}, address };
}

/** A caller with a password. */
export function userCaller(name: string, address: string): Caller {
  return { kind: 'user', name, groups: [], claims: {}, address };
}

/** The rights of callers, by which listings, events and searches filter. */
export interface Access {
  /**
   * Whether a caller may do something.
   * @param caller `undefined`: callers are not distinguished here, and may do all
   * @param repository by its full name, such as `docker.io/library/alpine`; `undefined`: the mirror itself
   */
  may(caller: Caller | undefined, action: Action, repository: string | undefined): boolean;
}
