import { namedRepository, type Repository } from '../../../mirror/repository.ts';
import type { Digest } from '../../../oci/digest.ts';
import { parseReference } from '../../../oci/reference.ts';
import type { UpstreamTable } from '../../../upstream/table.ts';

/** An image as a person names it. */
export interface NamedImage {
  readonly target: Repository;
  /** `undefined` where a digest says which image is meant. */
  readonly tag: string | undefined;
  readonly digest: Digest | undefined;
  /** The full name: upstream, repository, and tag or digest. */
  readonly name: string;
}

/**
 * Finds the repository that a name means: without a registry one of the default upstream, without a tag or digest the tag
 * `latest`.
 * @throws RegistryError NAME_INVALID, MANIFEST_INVALID, NAME_UNKNOWN, DENIED
 */
export function namedImage(upstreams: UpstreamTable, text: string): NamedImage {
  const named = parseReference(text);
  const { tag: written, digest } = named;
  const target = namedRepository(upstreams, named);
  const { key } = target;
  const tag = digest === undefined ? (written ?? 'latest') : undefined;
  return {
    target,
    tag,
    digest,
    name: tag === undefined ? `${key}@${digest}` : `${key}:${tag}`,
  };
}
