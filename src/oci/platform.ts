import { type Descriptor, manifestLimits, readDescriptor, readManifest } from './descriptor.ts';
import type { Digest } from './digest.ts';
import { isDigest } from './digest.ts';
import { parseJson } from './json.ts';

/** The platform of an image (image-spec, "Image Index": `platform`). */
export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant: string | undefined;
}

/** A manifest listed in an index. */
export interface IndexEntry extends Descriptor {
  /** `undefined` if the index does not say. */
  readonly platform: Platform | undefined;
  /** For an attestation that a build stored beside its images: the image it is about. */
  readonly attests: Digest | undefined;
}

/** Other names of architectures, as `uname` gives them. */
const architectures: Readonly<Record<string, string>> = {
  x86_64: 'amd64',
  aarch64: 'arm64',
  i386: '386',
  armhf: 'arm',
};

/** Parses `os/architecture[/variant]`, as clients write it. @returns `undefined` if the text is not a platform */
export function parsePlatform(text: string): Platform | undefined {
  const [, os, architecture, variant] = /^([a-z0-9]+)\/([a-z0-9_]+)(?:\/([a-z0-9.]+))?$/.exec(text.toLowerCase()) ?? [];
  if (os === undefined || architecture === undefined) return undefined;
  return { os, architecture: architectures[architecture] ?? architecture, variant };
}

/** A platform as clients write it. */
export function formatPlatform({ os, architecture, variant }: Platform): string {
  return [os, architecture, variant].filter((part) => part !== undefined).join('/');
}

/** Whether a platform is the wanted one; a wanted platform without a variant matches all its variants. */
export function isPlatform(platform: Platform, wanted: Platform): boolean {
  if (platform.os !== wanted.os || platform.architecture !== wanted.architecture) return false;
  return wanted.variant === undefined || variantOf(platform) === variantOf(wanted);
}

/** The entries of an index with their platforms; none for other manifests. @throws RegistryError as {@link readManifest} */
export function indexEntries(bytes: Buffer, contentType: string): IndexEntry[] {
  const { manifests } = readManifest(bytes, contentType);
  if (manifests.length === 0) return [];
  const body = parseJson(bytes, manifestLimits) as { manifests: unknown[] };
  return body.manifests.flatMap((entry) => {
    const manifest = readDescriptor(entry);
    if (manifest === undefined) return [];
    const { platform, annotations } = entry as { platform?: unknown; annotations?: unknown };
    return [{ ...manifest, platform: readPlatform(platform), attests: readAttested(annotations) }];
  });
}

/** The selected entries of an index. */
export interface ChosenEntries {
  readonly entries: readonly IndexEntry[];
  /** The wanted platforms for which the index has no image; none for an index without images. */
  readonly lacks: readonly Platform[];
}

/**
 * Selects the entries of an index for some platforms: their images, and entries without a platform.
 * @param options `platforms`: empty means all; `attestations`: whether to include attestations of the selected images
 */
export function chooseEntries(
  entries: readonly IndexEntry[],
  { platforms, attestations }: { readonly platforms: readonly Platform[]; readonly attestations: boolean },
): ChosenEntries {
  const images = entries.filter(isImage);
  if (platforms.length === 0 || images.length === 0) return { entries, lacks: [] };
  const isFor = (wanted: Platform) => (entry: IndexEntry) => isPlatform(entry.platform!, wanted);
  const chosen = new Set(images.filter((image) => platforms.some((wanted) => isFor(wanted)(image))));
  const digests = new Set([...chosen].map(({ digest }) => digest));
  const isWanted = (entry: IndexEntry): boolean => {
    if (isImage(entry)) return chosen.has(entry);
    return entry.attests === undefined || (attestations && digests.has(entry.attests));
  };
  return { entries: entries.filter(isWanted), lacks: platforms.filter((wanted) => !images.some(isFor(wanted))) };
}

/** Whether an entry of an index is an image of a platform: attestations say `unknown`. */
export function isImage({ platform }: IndexEntry): boolean {
  return platform !== undefined && platform.os !== 'unknown';
}

function readPlatform(found: unknown): Platform | undefined {
  const { os, architecture, variant } = (found ?? {}) as Record<string, unknown>;
  if (typeof os !== 'string' || typeof architecture !== 'string' || os === '') return undefined;
  return { os, architecture, variant: typeof variant === 'string' && variant !== '' ? variant : undefined };
}

// The form in which BuildKit stores provenance and SBOMs in the index itself.
function readAttested(annotations: unknown): Digest | undefined {
  const found = (annotations ?? {}) as Record<string, unknown>;
  const digest = found['vnd.docker.reference.digest'];
  const isAttestation = found['vnd.docker.reference.type'] === 'attestation-manifest';
  return isAttestation && typeof digest === 'string' && isDigest(digest) ? digest : undefined;
}

// A default variant equals the explicit one (image-spec, "Platform Variants").
function variantOf({ architecture, variant }: Platform): string | undefined {
  if (architecture === 'arm64' && variant === 'v8') return undefined;
  return architecture === 'arm' ? (variant ?? 'v7') : variant;
}
