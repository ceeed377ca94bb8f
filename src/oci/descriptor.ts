import { type Digest, isDigest } from './digest.ts';
import { RegistryError } from './error.ts';
import { JsonLimitError, type JsonLimits, parseWithNames } from './json.ts';
import { hasNamesInOtherCase, withoutForeignMembers } from './manifest-members.ts';
import {
  bareMediaType,
  dockerSchema1,
  dockerSchema1Signed,
  manifestMediaTypes,
  ociIndex,
  ociManifest,
} from './media-types.ts';

/**
 * The most that a manifest may contain, well above real ones with some 10,000 layers. Parsing larger ones would block all
 * other requests.
 */
export const manifestLimits: JsonLimits = { maxValues: 50_000, maxDepth: 100 };

/** A descriptor in a manifest (image-spec, "Content Descriptors"), reduced to what a mirror uses. */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  /** Length of the content in bytes. */
  readonly size: number;
}

/** Layers that registries need not hold: clients fetch them from the addresses in the manifest. */
export function isElsewhere({ mediaType }: Descriptor): boolean {
  return mediaType.includes('.foreign.') || mediaType.includes('.nondistributable.');
}

/** The descriptors in a manifest. */
export interface ManifestLinks {
  /**
   * The manifest's media type: from its body, else from the `Content-Type` it came with, else from its form; '' if none
   * of them gives one.
   */
  readonly mediaType: string;
  /** Manifests that an index lists. */
  readonly manifests: readonly Descriptor[];
  /** Config and layers of an image manifest, or other content of an index: some tools store build caches so. */
  readonly blobs: readonly Descriptor[];
  readonly subject: Descriptor | undefined;
  readonly artifactType: string | undefined;
  readonly annotations: Readonly<Record<string, string>> | undefined;
  /** The first member that should be a descriptor and cannot be read as one, such as `layers[3]`; absent: there is none. */
  readonly unreadable?: string | undefined;
  /** It has a name twice, or in other case, and so means one thing to one reader and another to the next: nothing is read of it. */
  readonly isAmbiguous?: boolean;
}

/**
 * Reads what a manifest refers to.
 * @param bytes the exact body, already verified against its digest
 * @param contentType the `Content-Type` it came with
 * @throws RegistryError MANIFEST_INVALID if it is not a JSON object, exceeds {@link manifestLimits}, or does not look
 *   like a manifest
 */
export function readManifest(bytes: Uint8Array, contentType: string): ManifestLinks {
  const { body: whole, isAmbiguous } = parseObject(bytes);
  const headerType = bareMediaType(contentType);
  const bodyType = typeof whole['mediaType'] === 'string' ? whole['mediaType'] : undefined;
  const mediaType = bodyType ?? (headerType === '' ? typeByForm(whole) : headerType);
  if (!isManifestShaped(whole)) {
    throw new RegistryError('bad-manifest', `a body of type "${headerType}" is not a manifest`);
  }
  const nothing = {
    mediaType,
    manifests: [],
    blobs: [],
    subject: undefined,
    artifactType: undefined,
    annotations: undefined,
  };
  if (isAmbiguous) return { ...nothing, isAmbiguous };
  const body = withoutForeignMembers(whole, [mediaType, headerType]);
  if (mediaType === dockerSchema1 || mediaType === dockerSchema1Signed || body['schemaVersion'] === 1) {
    return { ...nothing, blobs: schema1Blobs(body) };
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
    unreadable: unreadableMember(body),
  };
}

function unreadableMember(body: Record<string, unknown>): string | undefined {
  // Go writes `null` for what is not there.
  const isNone = (value: unknown): boolean =>
    value !== undefined && value !== null && readDescriptor(value) === undefined;
  const single = ['config', 'subject'].find((member) => isNone(body[member]));
  if (single !== undefined) return single;
  for (const member of ['layers', 'manifests', 'blobs']) {
    const list = body[member] ?? [];
    if (!Array.isArray(list)) return member;
    const at = list.findIndex((value) => readDescriptor(value) === undefined);
    if (at >= 0) return `${member}[${at}]`;
  }
  return undefined;
}

function parseObject(bytes: Uint8Array): { body: Record<string, unknown>; isAmbiguous: boolean } {
  let parsed: ReturnType<typeof parseWithNames>;
  try {
    parsed = parseWithNames(bytes, manifestLimits);
  } catch (error) {
    const isTooMuch = error instanceof JsonLimitError;
    throw new RegistryError(
      'bad-manifest',
      isTooMuch ? `the manifest is too large: ${error.message}` : 'the manifest is not JSON',
      { cause: error },
    );
  }
  const { value, hasNameTwice } = parsed;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new RegistryError('bad-manifest', 'the manifest is not a JSON object');
  }
  const body = value as Record<string, unknown>;
  return { body, isAmbiguous: hasNameTwice || hasNamesInOtherCase(body) };
}

// Error pages and token responses are JSON objects too; every manifest has one of these members. Go writes `null` for an
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

// Docker's types always appear in the body; OCI types need not (image-spec, "Image Manifest").
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

/** A descriptor from parsed JSON. @returns `undefined` if it is not a descriptor */
export function readDescriptor(value: unknown): Descriptor | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { mediaType, digest, size } = value as Record<string, unknown>;
  if (typeof digest !== 'string' || !isDigest(digest)) return undefined;
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) return undefined;
  return { mediaType: typeof mediaType === 'string' ? mediaType : '', digest, size };
}

// Schema 1 lists its layers without sizes: -1 means that the size is unknown.
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
