import { isElsewhere, type ManifestLinks, readManifest } from '../oci/descriptor.ts';
import { RegistryError } from '../oci/error.ts';
import { bareMediaType } from '../oci/media-types.ts';
import type { HostedBlobs } from './blobs.ts';
import { missingPart } from './refusals.ts';
import type { HostedRepositories } from './repositories.ts';
import type { HostedRules } from './rules.ts';

/**
 * Reads a manifest as a client pushes it.
 * @throws RegistryError SIZE_INVALID (413), MANIFEST_INVALID, UNSUPPORTED (415)
 */
export function readPushedManifest(
  bytes: Buffer,
  contentType: string,
  { rules, maxBytes }: { readonly rules: HostedRules; readonly maxBytes: number },
): ManifestLinks {
  if (bytes.length > maxBytes) {
    throw new RegistryError('manifest-too-large', `a manifest may have at most ${maxBytes} bytes here`);
  }
  const bare = bareMediaType(contentType);
  const links = readManifest(bytes, bare === 'application/json' ? '' : contentType);
  if (bare !== '' && bare !== 'application/json' && bareMediaType(links.mediaType) !== bare) {
    throw new RegistryError('bad-manifest', `the manifest says it is "${links.mediaType}", the request "${bare}"`);
  }
  rules.requireTypes(links);
  if (links.isAmbiguous === true) {
    throw new RegistryError('bad-manifest', 'the manifest has a name twice, or in other upper and lower case');
  }
  if (links.unreadable !== undefined) {
    const sentence = `"${links.unreadable}" of the manifest is not a descriptor with a sha256 or sha512 digest and a size`;
    throw new RegistryError('bad-manifest', sentence);
  }
  return links;
}

/**
 * Makes sure that a repository has what a manifest names.
 * @throws RegistryError MANIFEST_BLOB_UNKNOWN, SIZE_INVALID; Error of the file system
 */
export async function requireParts(
  { blobs, manifests }: ManifestLinks,
  here: {
    readonly repository: string;
    readonly blobs: HostedBlobs;
    readonly repositories: HostedRepositories;
    readonly rules: HostedRules;
  },
): Promise<void> {
  const { repository, repositories, rules } = here;
  for (const blob of blobs) {
    if (isElsewhere(blob)) continue;
    const found = await here.blobs.get(repository, blob.digest);
    if (found === undefined) throw missingPart(repository, blob.digest);
    if (blob.size >= 0 && found.size !== blob.size) {
      const sentence = `the manifest gives ${blob.digest} ${blob.size} bytes; it has ${found.size}`;
      throw new RegistryError('wrong-length', sentence, { detail: { digest: blob.digest, size: found.size } });
    }
  }
  // Manifests that an index lists may be missing, the content of a manifest never.
  for (const { digest } of rules.sparseIndexes ? [] : manifests) {
    if ((await repositories.manifest(repository, digest)) === undefined) throw missingPart(repository, digest);
  }
}
