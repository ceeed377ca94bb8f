import type { Digest } from '../../oci/digest.ts';
import { parseReference } from '../../oci/reference.ts';
import { selectUpstream } from '../../upstream/selection.ts';
import type { UpstreamTable } from '../../upstream/table.ts';
import type { Target } from '../fill/sources.ts';

/** An image as a person names it. */
export interface NamedImage {
  readonly target: Target;
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
  const { registry, repository: name, tag: written, digest } = parseReference(text);
  const { upstream, repository } = selectUpstream(upstreams, {
    name,
    nsValues: registry === undefined ? [] : [registry],
    refNameValues: [],
    host: undefined,
  });
  const key = `${upstream.name}/${repository}`;
  const tag = digest === undefined ? (written ?? 'latest') : undefined;
  return {
    target: { upstream, repository, key },
    tag,
    digest,
    name: tag === undefined ? `${key}@${digest}` : `${key}:${tag}`,
  };
}
