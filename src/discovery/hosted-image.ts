import type { HostedRegistry } from '../hosted/hosted-registry.ts';
import { isElsewhere, readManifest } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import type { ManifestReference } from '../oci/request.ts';
import { readStored } from './image-content.ts';
import type { ImagePlace } from './image-place.ts';

/** Deepest nesting of indexes that is followed. */
const maxDepth = 4;

/** An image of a hosted repository. @returns `undefined` if it is not there. @throws Error of the file system */
export async function hostedImage(
  hosted: HostedRegistry,
  { repository, reference }: { readonly repository: string; readonly reference: ManifestReference },
): Promise<ImagePlace | undefined> {
  const { repositories, layout, blobs, manifests } = hosted;
  const digest =
    reference.kind === 'digest' ? reference.digest : (await repositories.tag(repository, reference.tag))?.digest;
  const record = digest && (await repositories.manifest(repository, digest));
  if (digest === undefined || record === undefined) return undefined;
  const bytes = await readStored(layout.blobLink(repository, digest), digest);
  if (bytes === undefined) return undefined;
  return {
    digest,
    contentType: record.contentType,
    bytes,
    source: { upstream: null, by: 'push' },
    cachedAtMs: record.pushedAtMs,
    checkedAtMs: undefined,
    kept: 'hosted',
    referrers: () => manifests.referrers(repository, digest),
    blob: (part) => blobs.get(repository, part),
    isWhole: (part, contentType) => isWhole(hosted, { repository, digest: part, contentType, depth: 0 }),
    // To say it, all repositories would have to be looked at.
    sharers: () => undefined,
  };
}

async function isWhole(
  hosted: HostedRegistry,
  one: { readonly repository: string; readonly digest: Digest; readonly contentType: string; readonly depth: number },
): Promise<boolean> {
  const { repository, digest, contentType, depth } = one;
  const { layout, blobs, repositories } = hosted;
  if ((await repositories.manifest(repository, digest)) === undefined) return false;
  const bytes = await readStored(layout.blobLink(repository, digest), digest);
  if (bytes === undefined) return false;
  const links = readManifest(bytes, contentType);
  for (const part of links.blobs) {
    if (!isElsewhere(part) && (await blobs.get(repository, part.digest)) === undefined) return false;
  }
  if (links.manifests.length === 0) return true;
  if (depth >= maxDepth) return false;
  for (const child of links.manifests) {
    const next = { repository, digest: child.digest, contentType: child.mediaType, depth: depth + 1 };
    if (await isWhole(hosted, next)) return true;
  }
  return false;
}
