import { type Digest, isDigest } from '../oci/digest.ts';
import { ociManifest } from '../oci/media-types.ts';
import { ArchiveError } from './archive-error.ts';
import { type ArchivedName, attachmentAnnotation, nameIn } from './image-names.ts';
import { countObjects, maxImages, maxObjects } from './limits.ts';

/** Something that an archive has at its top: an image, or what belongs to one. */
export interface ArchivedImage {
  readonly name: ArchivedName;
  readonly digest: Digest;
  readonly mediaType: string;
  readonly size: number;
  /** Whether it belongs to an image, as a signature does; its name is full then. */
  readonly isAttachment: boolean;
}

/**
 * Reads `index.json` (image-spec, "OCI Image Layout": index.json file).
 * @throws ArchiveError
 */
export function readIndexFile(bytes: Buffer): ArchivedImage[] {
  const { manifests } = parseObject(bytes, 'index.json');
  if (!Array.isArray(manifests)) throw new ArchiveError('its index.json names no manifests');
  if (manifests.length > maxImages) throw new ArchiveError(`it has more than ${maxImages} images`);
  return manifests.map((entry: unknown) => {
    const { digest, size, mediaType, annotations } = asObject(entry);
    if (typeof digest !== 'string' || !isDigest(digest)) throw new ArchiveError('its index.json names no digest');
    if (!Number.isSafeInteger(size) || (size as number) < 0) throw new ArchiveError('its index.json names no size');
    const notes = asObject(annotations);
    const attachment = notes[attachmentAnnotation];
    return {
      name: typeof attachment === 'string' ? { kind: 'full', name: attachment } : nameIn(notes),
      digest,
      mediaType: typeof mediaType === 'string' ? mediaType : ociManifest,
      size: size as number,
      isAttachment: typeof attachment === 'string',
    };
  });
}

/** @throws ArchiveError where it is not a JSON object */
export function parseObject(bytes: Buffer, name: string): Record<string, unknown> {
  return asObject(parseJson(bytes, name), name);
}

/** @throws ArchiveError where it is not JSON */
export function parseJson(bytes: Buffer, name: string): unknown {
  if (countObjects(bytes) > maxObjects) throw new ArchiveError(`${name} in it has more than ${maxObjects} objects`);
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw new ArchiveError(`${name} in it is not JSON`, { cause: error });
  }
}

/** An object as it is, anything else as an empty one, or an error where a name is given. @throws ArchiveError */
export function asObject(value: unknown, name?: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  if (name !== undefined) throw new ArchiveError(`${name} in it is not a JSON object`);
  return {};
}
