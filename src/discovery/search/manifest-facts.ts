import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { artifactTypeOf } from '../../oci/artifact-types.ts';
import { type ManifestLinks, manifestLimits, readManifest } from '../../oci/descriptor.ts';
import { type Digest, digestAlgorithm, digestHex } from '../../oci/digest.ts';
import { parseJson } from '../../oci/json.ts';
import { bareMediaType, manifestMediaTypes } from '../../oci/media-types.ts';
import type { GivenEntry } from './entry.ts';

/** Most annotations and characters of one that are kept. */
const maxAnnotations = 50;
const maxAnnotationLength = 1_000;

/** Larger configs are not read, in bytes. */
const maxConfigBytes = 1024 * 1024;
/** Most manifests of an index that are read for its size. */
const maxChildren = 50;

/** The facts of an entry from its manifest, and from its config where that is readable. */
export interface ManifestFacts {
  readonly type: string;
  /** The short names that it is found by. */
  readonly types: readonly string[];
  readonly artifactType: string | undefined;
  readonly mediaType: string;
  /** Of the manifest, its config and its layers. */
  readonly mediaTypes: readonly string[];
  readonly platforms: readonly string[];
  readonly annotations: Readonly<Record<string, string>>;
  readonly subject: Digest | undefined;
  /** In milliseconds since 1970; 0: not stated. */
  readonly createdAtMs: number;
  readonly sizeBytes: number;
  /** The digests that it names. */
  readonly parts: readonly Digest[];
  /** The manifests that it lists. */
  readonly children: readonly Digest[];
}

interface Listed {
  readonly platform?: { readonly os?: unknown; readonly architecture?: unknown; readonly variant?: unknown };
}

/** Reads a manifest, and its config. @throws RegistryError if it cannot be read; Error of the file system */
export function readFacts(entry: GivenEntry): ManifestFacts {
  const bytes = readFileSync(entry.path);
  const links = readManifest(bytes, entry.mediaType);
  const { manifests, blobs, subject } = links;
  const body = parseJson(bytes, manifestLimits) as {
    readonly config?: { readonly digest?: unknown };
    readonly manifests?: readonly Listed[];
    artifactType?: unknown;
  };
  const config = blobs.find(({ digest }) => digest === body.config?.digest);
  const annotations = boundedAnnotations(links.annotations ?? {});
  const artifactType = links.artifactType === config?.mediaType ? undefined : links.artifactType;
  const layerTypes = blobs.filter((blob) => blob !== config).map((blob) => blob.mediaType);
  const type = artifactTypeOf({
    mediaType: links.mediaType,
    artifactType,
    configType: config?.mediaType,
    layerTypes,
    annotations,
  });
  const configPath = config && pathOf(entry, config.digest);
  const settings = configPath === undefined ? {} : readConfig(configPath);
  const listed = (body.manifests ?? []).map((one) => platformOf(one?.platform));
  const platforms = [...new Set([platformOf(settings), ...listed].filter((platform) => platform !== undefined))];
  return {
    type,
    types: type === 'index' && hasImages(links.manifests) ? ['index', 'image'] : [type],
    artifactType: artifactType ?? links.artifactType,
    mediaType: links.mediaType,
    mediaTypes: [...new Set([links.mediaType, config?.mediaType ?? '', ...layerTypes])].filter((one) => one !== ''),
    platforms,
    annotations,
    subject: subject?.digest,
    createdAtMs: timeOf(annotations['org.opencontainers.image.created']) || timeOf(settings['created']),
    sizeBytes: entry.sizeBytes ?? bytes.length + sizeOf(entry, links),
    parts: [...manifests, ...blobs].map(({ digest }) => digest),
    children: manifests.map(({ digest }) => digest),
  };
}

function hasImages(manifests: readonly { readonly mediaType: string }[]): boolean {
  return manifests.some(({ mediaType }) => manifestMediaTypes.includes(bareMediaType(mediaType)));
}

function pathOf({ readable, folder }: GivenEntry, digest: Digest): string | undefined {
  return folder === undefined ? readable[digest] : join(folder, digestAlgorithm(digest), digestHex(digest));
}

/** Bytes of what a manifest names, and of what these name, each once. */
function sizeOf(entry: GivenEntry, { blobs, manifests }: ManifestLinks): number {
  const sizes = new Map([...blobs, ...manifests].map(({ digest, size }) => [digest, Math.max(0, size)]));
  for (const { digest, mediaType } of manifests.slice(0, maxChildren)) {
    const path = pathOf(entry, digest);
    for (const blob of path === undefined ? [] : blobsOf(path, mediaType))
      sizes.set(blob.digest, Math.max(0, blob.size));
  }
  return sizes.values().reduce((sum, size) => sum + size, 0);
}

function blobsOf(path: string, mediaType: string): ManifestLinks['blobs'] {
  try {
    return readManifest(readFileSync(path), mediaType).blobs;
  } catch {
    // An index may list what the repository does not have.
    return [];
  }
}

/** The config of an image, or nothing where it is another thing. */
function readConfig(path: string): Readonly<Record<string, unknown>> {
  try {
    if (statSync(path).size > maxConfigBytes) return {};
    const config = parseJson(readFileSync(path), manifestLimits);
    return typeof config === 'object' && config !== null ? (config as Record<string, unknown>) : {};
  } catch {
    // Configs of artifacts are anything at all.
    return {};
  }
}

function platformOf(value: unknown): string | undefined {
  const { os, architecture, variant } = (value ?? {}) as Record<string, unknown>;
  if (typeof os !== 'string' || typeof architecture !== 'string' || os === '' || architecture === '') return undefined;
  if (os === 'unknown') return undefined;
  return [os, architecture, ...(typeof variant === 'string' && variant !== '' ? [variant] : [])]
    .join('/')
    .slice(0, 100);
}

function boundedAnnotations(annotations: Readonly<Record<string, string>>): Record<string, string> {
  const entries = Object.entries(annotations).slice(0, maxAnnotations);
  return Object.fromEntries(entries.map(([key, value]) => [key.slice(0, 200), value.slice(0, maxAnnotationLength)]));
}

function timeOf(value: unknown): number {
  const ms = typeof value === 'string' ? Date.parse(value) : Number.NaN;
  return Number.isFinite(ms) && ms > 0 ? ms : 0;
}
