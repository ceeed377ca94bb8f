import { type ManifestLinks, readDescriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { ociIndex } from '../oci/media-types.ts';
import type { HostedReferrer } from './repositories.ts';

/** The tag under which clients list referrers where a registry has no API for them: `sha256-<hex>`. */
export function fallbackTag(subject: Digest): string {
  const [algorithm = '', hex = ''] = subject.split(':');
  return `${algorithm.slice(0, 32)}-${hex.slice(0, 64)}`;
}

/** The index of the referrers API (distribution-spec, "Listing Referrers"). */
export function referrersIndex(referrers: readonly HostedReferrer[]): Buffer {
  return Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: ociIndex, manifests: referrers }));
}

/** How a manifest with a subject is listed. */
export function referrerOf(
  digest: Digest,
  bytes: Buffer,
  { mediaType, artifactType, annotations }: ManifestLinks,
): HostedReferrer {
  return { mediaType, digest, size: bytes.length, artifactType, annotations };
}

/** The descriptors of an index that a client keeps under the fallback tag; none where it is not one. */
export function descriptorsOf(bytes: Buffer): HostedReferrer[] {
  try {
    const { manifests } = JSON.parse(bytes.toString()) as { readonly manifests?: unknown };
    if (!Array.isArray(manifests)) return [];
    return (manifests as unknown[]).filter((entry): entry is HostedReferrer => readDescriptor(entry) !== undefined);
  } catch {
    return [];
  }
}
