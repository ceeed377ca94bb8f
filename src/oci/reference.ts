import { type Digest, isDigest } from './digest.ts';
import { RegistryError } from './error.ts';

const repositoryPattern = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const tagPattern = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/;

/** Longest accepted repository name, in characters; the spec asks clients to keep host and name together under 255. */
const maxRepositoryLength = 255;

/** Whether a text is a repository name by the grammar of the distribution-spec, "Pulling manifests" (`<name>`). */
export function isRepository(text: string): boolean {
  return text.length <= maxRepositoryLength && repositoryPattern.test(text);
}

/** Whether a text is a tag by the grammar of the distribution-spec, "Pulling manifests" (`<reference>`). */
export function isTag(text: string): boolean {
  return tagPattern.test(text);
}

/**
 * Whether the first part of a name is a registry host: it has a dot or a port, or is `localhost` (the rule of Docker
 * references).
 */
export function looksLikeHost(part: string): boolean {
  return part.includes('.') || part.includes(':') || part === 'localhost';
}

/** A parsed image name; nothing is added that was not written. */
export interface Reference {
  /** The registry host, if the name has one. */
  readonly registry: string | undefined;
  readonly repository: string;
  readonly tag: string | undefined;
  readonly digest: Digest | undefined;
}

/**
 * Parses `[registry/]repository[:tag][@digest]`.
 * @throws RegistryError NAME_INVALID, or MANIFEST_INVALID for a malformed tag or digest
 */
export function parseReference(text: string): Reference {
  const [named = '', digestText, ...rest] = text.split('@');
  if (rest.length > 0) throw new RegistryError('bad-name', `"${text}" has more than one @`);
  if (digestText !== undefined && !isDigest(digestText)) {
    throw new RegistryError('bad-reference', `"${digestText}" is not a sha256 or sha512 digest`);
  }
  const slash = named.indexOf('/');
  const first = slash === -1 ? '' : named.slice(0, slash);
  const registry = looksLikeHost(first) ? first.toLowerCase() : undefined;
  const path = registry === undefined ? named : named.slice(slash + 1);
  const colon = path.lastIndexOf(':');
  const repository = colon === -1 ? path : path.slice(0, colon);
  const tag = colon === -1 ? undefined : path.slice(colon + 1);
  if (!isRepository(repository)) throw new RegistryError('bad-name', `"${repository}" is not a repository name`);
  if (tag !== undefined && !isTag(tag)) throw new RegistryError('bad-reference', `"${tag}" is not a tag`);
  return { registry, repository, tag, digest: digestText };
}
