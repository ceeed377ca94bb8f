import { isDigest } from '../oci/digest.ts';
import { ociManifest } from '../oci/media-types.ts';
import { ArchiveError } from './archive-error.ts';
import { asObject, parseObject } from './archived-json.ts';
import type { ArchivedImage, UnreadableImage } from './found-images.ts';
import { attachmentAnnotation, isAttachmentTag, kindAnnotation, nameIn } from './image-names.ts';
import { maxImages } from './limits.ts';

/** The last part of the kind that `cosign save` and hauler write for an entry, and the suffix of the tag that cosign gives it. */
const suffixes: Readonly<Record<string, '.sig' | '.att' | '.sbom'>> = {
  sigs: '.sig',
  atts: '.att',
  sboms: '.sbom',
};

/**
 * Reads `index.json` (image-spec, "OCI Image Layout": index.json file). Invalid entries are returned separately.
 * @throws ArchiveError if it is not a list at all
 */
export function readIndexFile(bytes: Buffer): { images: ArchivedImage[]; unreadable: UnreadableImage[] } {
  const { manifests } = parseObject(bytes, 'index.json');
  if (!Array.isArray(manifests)) throw new ArchiveError('its index.json names no manifests');
  if (manifests.length > maxImages) throw new ArchiveError(`it has more than ${maxImages} images`);
  const images: ArchivedImage[] = [];
  const unreadable: UnreadableImage[] = [];
  for (const [at, value] of manifests.entries()) {
    const entry = readEntry(asObject(value));
    if (typeof entry !== 'string') images.push(entry);
    else unreadable.push({ name: `entry ${at + 1} of its index.json`, reason: `its index.json names no ${entry}` });
  }
  return { images, unreadable };
}

/** @returns what an invalid entry lacks */
function readEntry(entry: Record<string, unknown>): ArchivedImage | string {
  const { digest, size, mediaType } = entry;
  if (typeof digest !== 'string' || !isDigest(digest)) return 'digest';
  if (!Number.isSafeInteger(size) || (size as number) < 0) return 'size';
  const notes = asObject(entry['annotations']);
  const attachment = notes[attachmentAnnotation];
  const name = typeof attachment === 'string' ? ({ kind: 'full', name: attachment } as const) : nameIn(notes);
  const said = notes[kindAnnotation];
  const kind = typeof said === 'string' ? said.split('/') : [];
  const last = kind.at(-1) ?? '';
  const suffix = Object.hasOwn(suffixes, last) ? suffixes[last] : undefined;
  // A referrer is found by what its manifest refers to; its entry has the name of its subject.
  const isReferrer = kind.includes('referrers');
  const isAttachment = typeof attachment === 'string' || suffix !== undefined || isReferrer || isAttachmentTag(name);
  return {
    name: isReferrer ? { kind: 'none' } : name,
    digest,
    mediaType: typeof mediaType === 'string' ? mediaType : ociManifest,
    size: size as number,
    isAttachment,
    suffix,
  };
}
