import { type Digest, parseDigest } from './digest.ts';
import { RegistryError } from './error.ts';
import { isRepository, isTag } from './reference.ts';
import { requireRepository } from './request.ts';

/** A request of the push API by its method, path and query (distribution-spec, "Endpoints" end-4 to 11). */
export type PushRequest =
  /** end-4a, 4b, 11: begins an upload, sends a blob at once, or mounts one. */
  | {
      readonly kind: 'begin';
      readonly name: string;
      readonly digest: Digest | undefined;
      readonly mount: Mount | undefined;
    }
  /** end-5, 6, 13, and cancel, by the method. */
  | { readonly kind: 'upload'; readonly name: string; readonly id: string; readonly digest: Digest | undefined };

export interface Mount {
  readonly digest: Digest;
  /** The repository to take it from; `undefined`: any that the caller may read. */
  readonly from: string | undefined;
}

// Some clients leave the last slash out, and registries take that.
const uploadPattern = /^\/v2\/(.+)\/blobs\/uploads(?:\/([^/]*))?$/;

/**
 * Reads the path of a request about uploads.
 * @param path the undecoded path, without its query
 * @returns `undefined` for any other path
 * @throws RegistryError NAME_INVALID, DIGEST_INVALID
 */
export function parsePushRequest(path: string, query: string): PushRequest | undefined {
  const [, name, id = ''] = uploadPattern.exec(path) ?? [];
  if (name === undefined) return undefined;
  requireRepository(name);
  const parameters = new URLSearchParams(query);
  requireAlgorithm(parameters.get('digest-algorithm'));
  const digest = digestIn(parameters, 'digest');
  if (id !== '') return { kind: 'upload', name, id, digest };
  const mounted = digestIn(parameters, 'mount');
  const from = parameters.get('from') ?? undefined;
  return {
    kind: 'begin',
    name,
    digest,
    mount: mounted && { digest: mounted, from: from && isRepository(from) ? from : undefined },
  };
}

/** The tags of `?tag=` (distribution-spec, "Pushing Manifests"). @throws RegistryError MANIFEST_INVALID */
export function tagParameters(query: string): string[] {
  const tags = new URLSearchParams(query).getAll('tag');
  for (const tag of tags) {
    if (!isTag(tag)) {
      throw new RegistryError('bad-reference', 'not a tag by the grammar of the distribution-spec', {
        detail: { tag: tag.slice(0, 200) },
      });
    }
  }
  return [...new Set(tags)];
}

/**
 * Reads the `Content-Range` of a chunk: `first-last`, both inclusive, without a unit (distribution-spec, "Pushing a blob
 * in chunks"); some clients write `bytes first-last/*`.
 * @returns `end` is exclusive; `undefined` where there is no header
 * @throws RegistryError BLOB_UPLOAD_INVALID
 */
export function readChunkRange(
  header: string | undefined,
): { readonly start: number; readonly end: number } | undefined {
  if (header === undefined) return undefined;
  const [, first, last] = /^(?:bytes[ =])?(\d{1,15})-(\d{1,15})(?:\/(?:\d{1,15}|\*))?$/.exec(header.trim()) ?? [];
  const [start, end] = [Number(first), Number(last) + 1];
  if (first !== undefined && end > start) return { start, end };
  throw new RegistryError('bad-upload', `the Content-Range "${header.slice(0, 100)}" cannot be read`);
}

function digestIn(parameters: URLSearchParams, name: string): Digest | undefined {
  const text = parameters.get(name);
  return text === null ? undefined : parseDigest(text);
}

function requireAlgorithm(name: string | null): void {
  if (name === null || name === 'sha256' || name === 'sha512') return;
  throw new RegistryError('bad-digest', 'blobs are stored by sha256 or sha512', {
    detail: { algorithm: name.slice(0, 100) },
  });
}
