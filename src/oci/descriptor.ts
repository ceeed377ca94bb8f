import { type Digest, isDigest } from './digest.ts';
import { RegistryError } from './error.ts';
import { JsonLimitError, type JsonLimits, parseJson } from './json.ts';
import {
  bareMediaType,
  dockerSchema1,
  dockerSchema1Signed,
  manifestMediaTypes,
  ociIndex,
  ociManifest,
} from './media-types.ts';

/**
 * What a manifest may consist of to be read, well above what real ones have: some 10,000 layers. Larger ones hold up all
 * other requests while they are parsed.
 */
export const manifestLimits: JsonLimits = { maxValues: 50_000, maxDepth: 100 };

/** A descriptor as a manifest holds it (image-spec, "Content Descriptors"), reduced to what a mirror acts upon. */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  /** Length of the content in bytes. */
  readonly size: number;
}

/** Layers that registries need not hold: clients fetch them from the addresses that the manifest gives. */
export function isElsewhere({ mediaType }: Descriptor): boolean {
  return mediaType.includes('.foreign.') || mediaType.includes('.nondistributable.');
}

/** What a manifest refers to. */
export interface ManifestLinks {
  /**
   * The manifest's own media type: from its body where it says one, else from the `Content-Type` it came with, else by
   * its form; '' where nothing tells.
   */
  readonly mediaType: string;
  /** Manifests that an index names. */
  readonly manifests: readonly Descriptor[];
  /** Config and layers that an image manifest names, and what else than manifests an index does: some tools keep caches so. */
  readonly blobs: readonly Descriptor[];
  readonly subject: Descriptor | undefined;
  readonly artifactType: string | undefined;
  readonly annotations: Readonly<Record<string, string>> | undefined;
}

/**
 * Reads what a manifest refers to.
 * @param bytes the exact body, already verified against its digest
 * @param contentType the `Content-Type` it came with
 * @throws RegistryError MANIFEST_INVALID when it is not a JSON object, has more than {@link manifestLimits} allow, or does
 *   not look like a manifest
 */
export function readManifest(bytes: Uint8Array, contentType: string): ManifestLinks {
  const body = parseObject(bytes);
  const headerType = bareMediaType(contentType);
  const bodyType = typeof body['mediaType'] === 'string' ? body['mediaType'] : undefined;
  const mediaType = bodyType ?? (headerType === '' ? typeByForm(body) : headerType);
  if (!isManifestShaped(body)) {
    throw new RegistryError('bad-manifest', `a body of type "${headerType}" is not a manifest`);
  }
  if (mediaType === dockerSchema1 || mediaType === dockerSchema1Signed || body['schemaVersion'] === 1) {
    return {
      mediaType,
      manifests: [],
      blobs: schema1Blobs(body),
      subject: undefined,
      artifactType: undefined,
      annotations: undefined,
    };
  }
  const config = readDescriptor(body['config']);
  const entries = readDescriptors(body['manifests']);
  return {
    mediaType,
    manifests: entries.filter(isManifest),
    blobs: [
      ...(config ? [config] : []),
      ...readDescriptors(body['layers']),
      ...readDescriptors(body['blobs']),
      ...entries.filter((entry) => !isManifest(entry)),
    ],
    subject: readDescriptor(body['subject']),
    artifactType: typeof body['artifactType'] === 'string' ? body['artifactType'] : config?.mediaType,
    annotations: readAnnotations(body['annotations']),
  };
}

function parseObject(bytes: Uint8Array): Record<string, unknown> {
  let parsed: unknown;
  try {
    parsed = parseJson(bytes, manifestLimits);
  } catch (error) {
    const isTooMuch = error instanceof JsonLimitError;
    throw new RegistryError(
      'bad-manifest',
      isTooMuch ? `the manifest is too large: ${error.message}` : 'the manifest is not JSON',
      { cause: error },
    );
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    throw new RegistryError('bad-manifest', 'the manifest is not a JSON object');
  }
  return parsed as Record<string, unknown>;
}

// Error pages and token answers are JSON objects too; every manifest has one of these members. Go writes `null` for an
// empty list.
function isManifestShaped(body: Record<string, unknown>): boolean {
  return (
    ['manifests', 'layers', 'fsLayers', 'blobs'].some((member) => isList(body, member)) ||
    readDescriptor(body['config']) !== undefined
  );
}

function isList(body: Record<string, unknown>, member: string): boolean {
  return Array.isArray(body[member]) || (Object.hasOwn(body, member) && body[member] === null);
}

// Docker's own types always name themselves in the body, those of the OCI need not (image-spec, "Image Manifest").
function typeByForm(body: Record<string, unknown>): string {
  if (body['schemaVersion'] === 1) return Array.isArray(body['signatures']) ? dockerSchema1Signed : dockerSchema1;
  if (body['schemaVersion'] !== 2) return '';
  if (isList(body, 'manifests')) return ociIndex;
  return isList(body, 'layers') ? ociManifest : '';
}

function isManifest({ mediaType }: Descriptor): boolean {
  return mediaType === '' || manifestMediaTypes.includes(bareMediaType(mediaType));
}

function readDescriptors(value: unknown): Descriptor[] {
  if (!Array.isArray(value)) return [];
  return value.map(readDescriptor).filter((descriptor) => descriptor !== undefined);
}

/** One descriptor out of parsed JSON. @returns `undefined` where it is none */
export function readDescriptor(value: unknown): Descriptor | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { mediaType, digest, size } = value as Record<string, unknown>;
  if (typeof digest !== 'string' || !isDigest(digest)) return undefined;
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) return undefined;
  return { mediaType: typeof mediaType === 'string' ? mediaType : '', digest, size };
}

// Schema 1 names its layers without their sizes: -1 says that the size is not known.
function schema1Blobs(body: Record<string, unknown>): Descriptor[] {
  const layers = Array.isArray(body['fsLayers']) ? body['fsLayers'] : [];
  return layers.flatMap((layer: unknown) => {
    const digest = typeof layer === 'object' && layer !== null ? (layer as Record<string, unknown>)['blobSum'] : '';
    return typeof digest === 'string' && isDigest(digest) ? [{ mediaType: '', digest, size: -1 }] : [];
  });
}

function readAnnotations(value: unknown): Record<string, string> | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const entries = Object.entries(value).filter((entry): entry is [string, string] => typeof entry[1] === 'string');
  return entries.length === 0 ? undefined : Object.fromEntries(entries);
}
