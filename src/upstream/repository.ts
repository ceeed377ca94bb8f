import { isRepository, type Reference } from '../oci/reference.ts';
import { selectUpstream } from './selection.ts';
import type { UpstreamTable } from './table.ts';
import type { Upstream } from './upstream.ts';

/** A repository of an upstream. */
export interface Repository {
  readonly upstream: Upstream;
  /** The upstream's own name of it, `library/` included. */
  readonly name: string;
  /** The cache's name of it: the name of the upstream, a slash, its own name. */
  readonly key: string;
}

/** The repository that an upstream calls `name`. */
export function repositoryOf(upstream: Upstream, name: string): Repository {
  return { upstream, name, key: `${upstream.name}/${name}` };
}

/** The repository with a key of the cache, if its upstream is configured and allows it. */
export function findRepository(table: UpstreamTable, key: string): Repository | undefined {
  const slash = key.indexOf('/');
  const upstream = slash === -1 ? undefined : table.find(key.slice(0, slash));
  const name = key.slice(slash + 1);
  if (upstream?.name !== key.slice(0, slash) || !isRepository(name) || !upstream.allows(name)) return undefined;
  return { upstream, name, key };
}

/**
 * The repository of a name as people write it.
 * @throws RegistryError NAME_INVALID, NAME_UNKNOWN, DENIED
 */
export function namedRepository(table: UpstreamTable, { registry, repository }: Reference): Repository {
  const nsValues = registry === undefined ? [] : [registry];
  const selection = selectUpstream(table, { name: repository, nsValues, refNameValues: [], host: undefined });
  return repositoryOf(selection.upstream, selection.repository);
}
