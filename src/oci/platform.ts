import { type Descriptor, readManifest } from './descriptor.ts';
import type { Digest } from './digest.ts';
import { isDigest } from './digest.ts';

/** What an image runs on (image-spec, "Image Index": `platform`). */
export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant: string | undefined;
}

/** One manifest that an index names. */
export interface IndexEntry extends Descriptor {
  /** `undefined` where the index does not say. */
  readonly platform: Platform | undefined;
  /** Of an attestation that a build put beside its images: the image that it is about. */
  readonly attests: Digest | undefined;
}

/** Other names of architectures, as `uname` gives them. */
const architectures: Readonly<Record<string, string>> = {
  x86_64: 'amd64',
  aarch64: 'arm64',
  i386: '386',
  armhf: 'arm',
};

/** Reads `os/architecture[/variant]`, as clients write it. @returns `undefined` where the text is none */
export function parsePlatform(text: string): Platform | undefined {
  const [, os, architecture, variant] = /^([a-z0-9]+)\/([a-z0-9_]+)(?:\/([a-z0-9.]+))?$/.exec(text.toLowerCase()) ?? [];
  if (os === undefined || architecture === undefined) return undefined;
  return { os, architecture: architectures[architecture] ?? architecture, variant };
}

/** A platform as clients write it. */
export function formatPlatform({ os, architecture, variant }: Platform): string {
  return [os, architecture, variant].filter((part) => part !== undefined).join('/');
}

/** Whether a platform is the one that is wanted; one that is wanted without a variant stands for all its variants. */
export function isPlatform(platform: Platform, wanted: Platform): boolean {
  if (platform.os !== wanted.os || platform.architecture !== wanted.architecture) return false;
  return wanted.variant === undefined || variantOf(platform) === variantOf(wanted);
}

/** What an index names, with the platforms; nothing for a manifest that is no index. @throws RegistryError as {@link readManifest} */
export function indexEntries(bytes: Buffer, contentType: string): IndexEntry[] {
  const { manifests } = readManifest(bytes, contentType);
  if (manifests.length === 0) return [];
  const body = JSON.parse(bytes.toString('utf8')) as { manifests: unknown[] };
  const written = new Map(body.manifests.map((entry) => [(entry as { digest?: unknown } | null)?.digest, entry]));
  return manifests.map((manifest) => {
    const { platform, annotations } = written.get(manifest.digest) as { platform?: unknown; annotations?: unknown };
    return { ...manifest, platform: readPlatform(platform), attests: readAttested(annotations) };
  });
}

function readPlatform(found: unknown): Platform | undefined {
  const { os, architecture, variant } = (found ?? {}) as Record<string, unknown>;
  if (typeof os !== 'string' || typeof architecture !== 'string' || os === '') return undefined;
  return { os, architecture, variant: typeof variant === 'string' && variant !== '' ? variant : undefined };
}

// The form in which BuildKit keeps provenance and lists of contents in the index itself.
function readAttested(annotations: unknown): Digest | undefined {
  const found = (annotations ?? {}) as Record<string, unknown>;
  const digest = found['vnd.docker.reference.digest'];
  const isAttestation = found['vnd.docker.reference.type'] === 'attestation-manifest';
  return isAttestation && typeof digest === 'string' && isDigest(digest) ? digest : undefined;
}

// What goes without saying is the same as what is said (image-spec, "Platform Variants").
function variantOf({ architecture, variant }: Platform): string | undefined {
  if (architecture === 'arm64' && variant === 'v8') return undefined;
  return architecture === 'arm' ? (variant ?? 'v7') : variant;
}
