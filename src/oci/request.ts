import { type Digest, isDigest, parseDigest } from './digest.ts';
import { RegistryError } from './error.ts';
import { isRepository, isTag } from './reference.ts';

/** The reference of a manifest request. */
export type ManifestReference =
  | { readonly kind: 'tag'; readonly tag: string }
  | { readonly kind: 'digest'; readonly digest: Digest };

/** A parsed request of the pull API; `name` is as the client wrote it and may begin with an upstream's name. */
export type RegistryRequest =
  | { readonly kind: 'ping' }
  | { readonly kind: 'manifest'; readonly name: string; readonly reference: ManifestReference }
  | { readonly kind: 'blob'; readonly name: string; readonly digest: Digest }
  | { readonly kind: 'tags'; readonly name: string }
  | { readonly kind: 'referrers'; readonly name: string; readonly digest: Digest };

/** Methods of the pull API; all others are answered 405 with these in `Allow`. */
export const pullMethods: readonly string[] = ['GET', 'HEAD'];

// The name is matched greedily, because a repository may itself contain a segment called "blobs" or "tags".
const endpointPattern = /^\/v2\/(.+)\/(manifests|blobs|referrers|tags)\/([^/]+)$/;

/**
 * Parses the path of a request under `/v2/` (distribution-spec, "Endpoints" end-1, 2, 3, 8a and 12a).
 * @param path the undecoded path, without its query: an escape inside a name is refused instead of decoded
 * @throws RegistryError NAME_INVALID, MANIFEST_INVALID, DIGEST_INVALID, or NAME_UNKNOWN for a path that is not an endpoint
 */
export function parseRequest(path: string): RegistryRequest {
  if (path === '/v2/' || path === '/v2') return { kind: 'ping' };
  const match = endpointPattern.exec(path);
  if (!match) throw new RegistryError('no-endpoint', 'this path is not part of the pull API of a registry');
  const [, name = '', endpoint = '', last = ''] = match;
  requireName(name);
  switch (endpoint) {
    case 'manifests':
      return { kind: 'manifest', name, reference: parseManifestReference(last) };
    case 'blobs':
      return { kind: 'blob', name, digest: parseDigest(unescapeColon(last)) };
    case 'referrers':
      return { kind: 'referrers', name, digest: parseDigest(unescapeColon(last)) };
    default:
      if (last !== 'list')
        throw new RegistryError('no-endpoint', 'this path is not part of the pull API of a registry');
      return { kind: 'tags', name };
  }
}

/** Makes sure that a path names a repository, with or without an upstream in front. @throws RegistryError NAME_INVALID */
export function requireName(name: string): void {
  if (!isName(name)) throw badName(name);
}

/** Makes sure that a text is the name of a repository, without the host of an upstream. @throws RegistryError NAME_INVALID */
export function requireRepository(name: string): void {
  if (!isRepository(name)) throw badName(name);
}

function badName(name: string): RegistryError {
  return new RegistryError('bad-name', 'not a repository name by the grammar of the distribution-spec', {
    detail: { name: name.slice(0, 300) },
  });
}

// A first part may be a host with a port (`localhost:5000/team/app`), which the grammar of names does not allow.
function isName(name: string): boolean {
  if (isRepository(name)) return true;
  const slash = name.indexOf('/');
  const [host, rest] = slash === -1 ? [name, undefined] : [name.slice(0, slash), name.slice(slash + 1)];
  return isPathHost(host) && (rest === undefined || isRepository(rest));
}

function isPathHost(part: string): boolean {
  return (
    part.length <= 255 && /^(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?:(?::|%3a)\d{1,5})?$/i.test(part)
  );
}

/** A tag or a digest. @throws RegistryError MANIFEST_INVALID, DIGEST_INVALID */
export function parseManifestReference(text: string): ManifestReference {
  const reference = unescapeColon(text);
  if (isDigest(reference)) return { kind: 'digest', digest: reference };
  if (isTag(reference)) return { kind: 'tag', tag: reference };
  if (reference.includes(':')) return { kind: 'digest', digest: parseDigest(reference) };
  throw new RegistryError('bad-reference', 'not a tag by the grammar of the distribution-spec', {
    detail: { tag: reference.slice(0, 200) },
  });
}

function unescapeColon(text: string): string {
  return text.replace(/%3a/i, ':');
}
