import { isDigest } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import { isRepository, isTag, looksLikeHost } from '../oci/reference.ts';
import { dockerHub } from './table.ts';

/** A parsed reference name (`OCI-REF-NAME`, `oci-ref-name`); its tag and digest select nothing. */
export interface NamedReference {
  /** The text as it was sent. */
  readonly text: string;
  /** The registry it names; `docker.io` for a short name, as in Docker. */
  readonly registry: string;
  /** The repository as it was written; `undefined` if the text is only a registry's name. */
  readonly repository: string | undefined;
}

/**
 * Parses a reference name: `host/repository[:tag][@digest]`, a host alone, or a short name of Docker Hub.
 * @param isConfigured whether a text is the name or alias of an upstream, which need not look like a host
 * @throws RegistryError NAME_INVALID
 */
export function parseReferenceName(text: string, isConfigured: (name: string) => boolean): NamedReference {
  if (text.trim() === '') throw new RegistryError('bad-name', 'the reference name is empty');
  const slash = text.indexOf('/');
  if (slash === -1) {
    if (isConfigured(text) || isBareHost(text)) return { text, registry: text, repository: undefined };
    return { text, registry: dockerHub, repository: repositoryOf(text, text) };
  }
  const first = text.slice(0, slash);
  if (!isConfigured(first) && !looksLikeHost(decoded(first))) {
    return { text, registry: dockerHub, repository: repositoryOf(text, text) };
  }
  return { text, registry: first, repository: repositoryOf(text.slice(slash + 1), text) };
}

// Without a slash, `ubuntu:22.04` is an image and its tag; a host alone has a dot or is an address.
function isBareHost(text: string): boolean {
  const [host = ''] = decoded(text).split('@', 1);
  return host.startsWith('[') || looksLikeHost(host.replace(/:[^:]*$/, ''));
}

function repositoryOf(named: string, text: string): string {
  const [path = '', digest, ...rest] = named.split('@');
  const colon = path.lastIndexOf(':');
  const repository = colon === -1 ? path : path.slice(0, colon);
  const tagIsValid = colon === -1 || isTag(path.slice(colon + 1));
  if (!isRepository(repository) || !tagIsValid || rest.length > 0 || (digest !== undefined && !isDigest(digest))) {
    throw new RegistryError('bad-name', `the reference name "${text.slice(0, 300)}" is not the name of an image`);
  }
  return repository;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
