import type { Digest } from '../../../oci/digest.ts';
import { parseReference } from '../../../oci/reference.ts';
import { namedRepository, type Repository } from '../../../upstream/repository.ts';
import type { UpstreamTable } from '../../../upstream/table.ts';

/** An image name as a person writes it, resolved. */
export interface NamedImage {
  readonly repository: Repository;
  /** `undefined` if a digest selects the image. */
  readonly tag: string | undefined;
  readonly digest: Digest | undefined;
  /** The full name: upstream, repository, and tag or digest. */
  readonly name: string;
}

/**
 * Resolves the repository of a name: without a registry, of the default upstream; without a tag or digest, with the tag
 * `latest`.
 * @throws RegistryError NAME_INVALID, MANIFEST_INVALID, NAME_UNKNOWN, DENIED
 */
export function namedImage(upstreams: UpstreamTable, text: string): NamedImage {
  const named = parseReference(text);
  const { tag: written, digest } = named;
  const repository = namedRepository(upstreams, named);
  const { key } = repository;
  const tag = digest === undefined ? (written ?? 'latest') : undefined;
  return {
    repository,
    tag,
    digest,
    name: tag === undefined ? `${key}@${digest}` : `${key}:${tag}`,
  };
}
