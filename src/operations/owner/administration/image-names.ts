import { isDigest } from '../../../oci/digest.ts';
import { RegistryError } from '../../../oci/error.ts';
import { repositoryGlob } from '../../../oci/glob.ts';
import { looksLikeHost, parseReference } from '../../../oci/reference.ts';
import { parseTagSelector } from '../../../oci/tag-selector.ts';
import { selectAny } from '../../../upstream/selection.ts';
import { canonicalName, dockerHub, type UpstreamTable } from '../../../upstream/table.ts';
import type { Upstream } from '../../../upstream/upstream.ts';

/** The images that a text selects: one, or those that a pattern matches. */
export type ImageSelection = ImageName | ImagePattern;

/** One image. */
export interface ImageName {
  readonly kind: 'image';
  readonly text: string;
  /** As the cache names it: `docker.io/library/nginx`. */
  readonly repository: string;
  /** A tag, or a digest. */
  readonly reference: string;
}

/** All images whose names match. */
export interface ImagePattern {
  readonly kind: 'pattern';
  readonly text: string;
  /** The same, with the upstream and everything that was omitted. */
  readonly full: string;
  /** Common prefix of all repositories that can match, as the cache names them. */
  readonly prefix: string;
  matchesRepository(repository: string): boolean;
  /** @param reference a tag, or the digest of a manifest that no tag stands for */
  matchesReference(reference: string): boolean;
}

/** The selection of a name without a tag: its tag `latest`, everything in the repository, or nothing (an error). */
export type Untagged = 'latest' | 'all';

export interface ImageNamesOptions {
  readonly upstreams: UpstreamTable;
  /** Whether repositories of a registry are stored that is no longer in the table. */
  readonly isStored: (registry: string) => boolean;
}

/** Parses image names as people write them, and patterns of names, for stored images. */
export class ImageNames {
  readonly #options: ImageNamesOptions;

  constructor(options: ImageNamesOptions) {
    this.#options = options;
  }

  /**
   * Parses `[registry/]repository[:tag][@digest]`, or a pattern: `[registry/]repository:tags` or
   * `[registry/]repository@*`, where `*` matches any characters within one segment of a repository's name, `**` any
   * segments, and tags are a tag, a pattern of tags or a version range. `*` as the registry means all registries.
   * @throws RegistryError NAME_INVALID, MANIFEST_INVALID, NAME_UNKNOWN for a registry that is neither configured nor stored
   */
  read(text: string, untagged: Untagged): ImageSelection {
    const { named, reference } = parted(text);
    const isPattern = named.includes('*') || (reference !== undefined && !isPlain(reference));
    if (isPattern) return this.#pattern(text, { named, reference, untagged });
    if (reference === undefined && untagged === 'all') return this.#pattern(text, { named, reference, untagged });
    const parsed = parseReference(text);
    return {
      kind: 'image',
      text,
      repository: this.#repository(named),
      reference: parsed.digest ?? parsed.tag ?? 'latest',
    };
  }

  #pattern(
    text: string,
    of: { readonly named: string; readonly reference: string | undefined; readonly untagged: Untagged },
  ): ImagePattern {
    const { named, reference, untagged } = of;
    if (reference === undefined && untagged === 'latest') {
      throw new RegistryError('bad-name', `"${text}" does not say which tags: "${text}:*" means all of them`);
    }
    const matchesReference = referenceMatcher(text, reference);
    const glob = named.includes('*') ? this.#glob(named, text) : this.#repository(named);
    return {
      kind: 'pattern',
      text,
      full: `${glob}:${reference ?? '*'}`,
      prefix: glob.split('*', 1)[0] ?? '',
      matchesRepository: repositoryGlob(glob),
      matchesReference,
    };
  }

  /** A pattern with the name of its upstream in front. */
  #glob(named: string, text: string): string {
    if (!/^[a-z0-9._:[\]*-]+(?:\/[a-z0-9._*-]+)*$/i.test(named)) {
      throw new RegistryError('bad-name', `"${text}" is not a pattern of repository names`);
    }
    const slash = named.indexOf('/');
    const first = slash === -1 ? '' : named.slice(0, slash);
    const rest = named.slice(slash + 1);
    const { upstreams, isStored } = this.#options;
    if (first === '*') return `*/${rest}`;
    const upstream = first === '' ? undefined : upstreams.find(first);
    if (upstream) return `${upstream.name}/${official(upstream, rest)}`;
    if (first !== '' && isStored(canonicalName(first))) return `${canonicalName(first)}/${rest}`;
    if (looksLikeHost(first) || first.includes('*') || upstreams.default === undefined) throw unknownName(first);
    return `${upstreams.default.name}/${official(upstreams.default, named)}`;
  }

  /** The repository of a name without tag and digest, even if it may no longer be pulled. */
  #repository(named: string): string {
    const { upstreams, isStored } = this.#options;
    const { registry, repository: name } = parseReference(named);
    if (registry !== undefined && upstreams.find(registry) === undefined && isStored(registry)) {
      return `${registry}/${name}`;
    }
    const { upstream, repository } = selectRepository(upstreams, { registry, name });
    return `${upstream.name}/${repository}`;
  }
}

/**
 * The upstream and repository of a name, as for a request, even if it may not be pulled.
 * @throws RegistryError NAME_INVALID, NAME_UNKNOWN
 */
export function selectRepository(
  upstreams: UpstreamTable,
  { registry, name }: { readonly registry: string | undefined; readonly name: string },
): { upstream: Upstream; repository: string; allowed: boolean } {
  const input = { name, nsValues: registry === undefined ? [] : [registry], refNameValues: [], host: undefined };
  const { upstream, repository } = selectAny(upstreams, input);
  return { upstream, repository, allowed: upstream.allows(repository) };
}

/** The full name of an image. */
export function written({ repository, reference }: { repository: string; reference: string }): string {
  return isDigest(reference) ? `${repository}@${reference}` : `${repository}:${reference}`;
}

/** Whether a selection includes an image. @param repository as the cache names it @param reference a tag or a digest */
export function selects(selection: ImageSelection, repository: string, reference: string): boolean {
  if (selection.kind === 'image') return selection.repository === repository && selection.reference === reference;
  return selection.matchesRepository(repository) && selection.matchesReference(reference);
}

/** Splits `named[:tags][@digest]`. A port belongs to the name. */
function parted(text: string): { named: string; reference: string | undefined } {
  const at = text.indexOf('@');
  if (at !== -1) {
    const named = text.slice(0, at);
    const colon = named.lastIndexOf(':');
    return { named: colon > named.lastIndexOf('/') ? named.slice(0, colon) : named, reference: text.slice(at) };
  }
  // A version range has no slash, and a name no space.
  const slash = text.lastIndexOf('/');
  const colon = text.indexOf(':', slash + 1);
  return colon === -1
    ? { named: text, reference: undefined }
    : { named: text.slice(0, colon), reference: text.slice(colon + 1) };
}

function isPlain(reference: string): boolean {
  return reference.startsWith('@') ? reference !== '@*' : parseTagSelector(reference)?.kind === 'tag';
}

function referenceMatcher(text: string, reference: string | undefined): (reference: string) => boolean {
  if (reference === undefined) return () => true;
  if (reference === '@*') return (found) => isDigest(found);
  if (reference.startsWith('@')) {
    const digest = reference.slice(1);
    if (!isDigest(digest)) throw new RegistryError('bad-reference', `"${digest}" is not a sha256 or sha512 digest`);
    return (found) => found === digest;
  }
  const tags = parseTagSelector(reference);
  if (tags === undefined) {
    throw new RegistryError('bad-reference', `"${reference}" in "${text}" is not a tag, pattern or version range`);
  }
  return (found) => !isDigest(found) && tags.matches(found);
}

/** Official images of Docker Hub are under `library/`, which their names omit. */
function official(upstream: Upstream, repository: string): string {
  const isHub = [upstream.name, ...upstream.aliases].some((name) => canonicalName(name) === dockerHub);
  return isHub && !repository.includes('/') && !repository.includes('**') ? `library/${repository}` : repository;
}

function unknownName(registry: string): RegistryError {
  return new RegistryError('unknown-upstream', `"${registry}" is not a configured upstream of this mirror`);
}
