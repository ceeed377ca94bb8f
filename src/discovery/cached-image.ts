import type { Digest } from '../oci/digest.ts';
import type { ManifestReference } from '../oci/request.ts';
import type { Catalog } from '../store/catalog/catalog.ts';
import { upstreamOf } from '../store/catalog/grant-records.ts';
import type { Layout } from '../store/files/layout.ts';
import { readStored } from './image-content.ts';
import type { ImagePlace, KeptBy } from './image-place.ts';

/** An image of a cached repository, as far as the repository may read it. @returns `undefined` if it is not stored */
export async function cachedImage(
  { catalog, layout }: { readonly catalog: Catalog; readonly layout: Pick<Layout, 'blob'> },
  { repository, reference }: { readonly repository: string; readonly reference: ManifestReference },
): Promise<ImagePlace | undefined> {
  const { grants, images, tags, manifests, blobs } = catalog;
  const record = reference.kind === 'tag' ? tags.get({ repository, tag: reference.tag, variant: '' }) : undefined;
  const digest = reference.kind === 'digest' ? reference.digest : record?.digest;
  const row = digest && images.manifest(digest);
  if (digest === undefined || row === undefined || !grants.isReadable(repository, digest)) return undefined;
  const bytes = await readStored(layout.blob(digest), digest);
  if (bytes === undefined) return undefined;
  const blob = (part: Digest) => {
    const stored = grants.isReadable(repository, part) ? blobs.get(part) : undefined;
    return stored && { path: layout.blob(part), size: stored.size };
  };
  return {
    digest,
    contentType: row.mediaType,
    bytes,
    source: { upstream: upstreamOf(repository), by: row.source ?? null },
    cachedAtMs: row.storedAtMs,
    checkedAtMs: record === undefined || record.checkedAtMs === 0 ? undefined : record.checkedAtMs,
    kept: keptBy(catalog, { repository, reference, digest }),
    referrers: () => Promise.resolve(manifests.referrers(repository, digest)),
    blob: (part) => Promise.resolve(blob(part)),
    isWhole: (part) => Promise.resolve(grants.isReadable(repository, part) && images.isWhole(part)),
    sharers: (part) =>
      grants.readers(part).filter((reader) => reader !== repository && grants.isReadable(reader, part)),
  };
}

function keptBy(
  { pins, images }: Catalog,
  {
    repository,
    reference,
    digest,
  }: { readonly repository: string; readonly reference: ManifestReference; readonly digest: Digest },
): KeptBy {
  const name = reference.kind === 'tag' ? reference.tag : digest;
  if (pins.isPinnedByName(repository, name) || pins.isPinnedByName(repository, digest)) return 'pin';
  const row = images.manifest(digest);
  if (row?.isPinned === true) return 'pinned';
  return row?.isRecent === true ? 'recent' : 'use';
}
