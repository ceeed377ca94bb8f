import type { HostedRegistry } from '../../../hosted/hosted-registry.ts';
import type { HostedRules } from '../../../hosted/rules.ts';
import type { Digest } from '../../../oci/digest.ts';
import { RegistryError } from '../../../oci/error.ts';
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

/** The hosted repositories of a process. */
export interface HostedHere {
  /** Read each time: they may be changed while the mirror runs. */
  readonly rules: () => HostedRules;
  /** `undefined` where another replica keeps them, or there are none. */
  readonly registry: HostedRegistry | undefined;
}

/** An image name that a pattern of `hosted.repositories` fits. */
export interface HostedName {
  readonly registry: HostedRegistry;
  readonly repository: string;
  /** `undefined` if a digest selects the image. */
  readonly tag: string | undefined;
  readonly digest: Digest | undefined;
  /** The full name: repository, and tag or digest. */
  readonly name: string;
}

/**
 * Resolves the name of a hosted image; without a tag or digest, it has the tag `latest`.
 * @returns `undefined` where no pattern fits the name
 * @throws RegistryError NAME_INVALID, MANIFEST_INVALID; DENIED where another replica keeps the hosted repositories
 */
export function hostedName({ rules, registry }: HostedHere, text: string): HostedName | undefined {
  const { registry: host, repository: path, tag: written, digest } = parseReference(text);
  const repository = host === undefined ? path : `${host}/${path}`;
  if (!rules().isHosted(repository)) return undefined;
  if (registry === undefined) {
    const sentence = `${repository} is kept by another replica, which hosted.owner names: run this command there`;
    throw new RegistryError('not-allowed', sentence);
  }
  const tag = digest === undefined ? (written ?? 'latest') : undefined;
  return {
    registry,
    repository,
    tag,
    digest,
    name: tag === undefined ? `${repository}@${digest}` : `${repository}:${tag}`,
  };
}
