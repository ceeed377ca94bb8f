import type { Digest, DigestAlgorithm } from '../../src/oci/digest.ts';
import { dockerManifest, dockerManifestList, ociIndex, ociManifest } from '../../src/oci/media-types.ts';
import { type BlobContent, type ByteSource, digestOfSource, memorySource, sourceOf } from './bytes.ts';

/** Something that was added and can be asked for by its digest. */
export interface Added {
  readonly digest: Digest;
  readonly size: number;
  readonly mediaType: string;
}

export interface AddedBlob extends Added {
  readonly source: ByteSource;
}

export interface AddedManifest extends Added {
  readonly repository: string;
  readonly bytes: Buffer;
}

export interface AddedImage extends AddedManifest {
  readonly config: AddedBlob;
  readonly layers: readonly AddedBlob[];
}

export interface BlobOptions {
  /** The only repository that may read it; without it, every repository may. Adding again adds a repository. */
  readonly repository?: string;
  readonly algorithm?: DigestAlgorithm;
  readonly mediaType?: string;
}

export interface ManifestOptions {
  readonly algorithm?: DigestAlgorithm;
  /** Keeps what the tag names already: the tag then answers with the first of them that `Accept` names. */
  readonly variant?: boolean;
}

export interface ImageOptions extends ManifestOptions {
  readonly layers?: readonly (BlobContent | AddedBlob)[];
  readonly config?: BlobContent | AddedBlob;
  readonly mediaTypes?: 'oci' | 'docker';
  readonly layerMediaType?: string;
  readonly artifactType?: string;
  readonly subject?: Added;
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface IndexEntry {
  readonly manifest: Added;
  readonly platform?: { readonly os: string; readonly architecture: string; readonly variant?: string };
}

interface StoredBlob {
  readonly blob: AddedBlob;
  /** Undefined: every repository. */
  repositories: Set<string> | undefined;
}

const dockerConfig = 'application/vnd.docker.container.image.v1+json';
const dockerLayer = 'application/vnd.docker.image.rootfs.diff.tar.gzip';
const ociConfig = 'application/vnd.oci.image.config.v1+json';
const ociLayer = 'application/vnd.oci.image.layer.v1.tar+gzip';
const ociEmpty = 'application/vnd.oci.empty.v1+json';

/** What a scripted registry holds. Nothing of it touches a disk. */
export class RegistryContents {
  readonly #blobs = new Map<string, StoredBlob>();
  readonly #manifests = new Map<string, Map<string, AddedManifest>>();
  readonly #tags = new Map<string, Map<string, readonly Digest[]>>();
  /** Whether referrers are also listed under the fallback tag (distribution-spec, "Referrers Tag Schema"). */
  keepFallbackTags = false;

  addBlob(content: BlobContent, options: BlobOptions = {}): AddedBlob {
    const source = sourceOf(content);
    const inContent = typeof content === 'object' && 'algorithm' in content ? content.algorithm : undefined;
    const digest = digestOfSource(source, options.algorithm ?? inContent);
    const mediaType = options.mediaType ?? ociLayer;
    return this.#link({ digest, size: source.size, mediaType, source }, options.repository);
  }

  removeBlob(digest: string): void {
    this.#blobs.delete(digest);
  }

  /** @param body an object to be written as JSON, or the exact bytes */
  addManifest(
    repository: string,
    tag: string | undefined,
    body: object | Uint8Array | string,
    mediaType: string,
    options: ManifestOptions = {},
  ): AddedManifest {
    const bytes =
      typeof body === 'string' || body instanceof Uint8Array
        ? Buffer.from(body as string)
        : Buffer.from(JSON.stringify(body));
    const digest = digestOfSource(memorySource(bytes), options.algorithm);
    const added = { repository, digest, size: bytes.length, mediaType, bytes };
    entryOf(this.#manifests, repository, () => new Map<string, AddedManifest>()).set(digest, added);
    if (tag !== undefined) this.tag(repository, tag, digest, options);
    return added;
  }

  /** Points a tag at a manifest, instead of the former one or as one more variant. */
  tag(repository: string, tag: string, digest: Digest, options: { readonly variant?: boolean } = {}): void {
    const tags = entryOf(this.#tags, repository, () => new Map<string, readonly Digest[]>());
    tags.set(tag, [...(options.variant ? (tags.get(tag) ?? []) : []), digest]);
  }

  removeTag(repository: string, tag: string): void {
    this.#tags.get(repository)?.delete(tag);
  }

  removeManifest(repository: string, digest: string): void {
    this.#manifests.get(repository)?.delete(digest);
  }

  /** Adds an image whose config and layers only `repository` may read. */
  addImage(repository: string, tag: string | undefined, options: ImageOptions = {}): AddedImage {
    const docker = options.mediaTypes === 'docker';
    const place = { repository, algorithm: options.algorithm };
    const layerType = options.layerMediaType ?? (docker ? dockerLayer : ociLayer);
    const layers = (options.layers ?? [`layer of ${repository}:${tag}`]).map((layer) =>
      this.#adopt(layer, { ...place, mediaType: layerType }),
    );
    const platform = { os: 'linux', architecture: 'amd64', comment: `${repository}:${tag}` };
    const config = this.#adopt(options.config ?? JSON.stringify(platform), {
      ...place,
      mediaType: options.artifactType === undefined ? (docker ? dockerConfig : ociConfig) : ociEmpty,
    });
    const mediaType = docker ? dockerManifest : ociManifest;
    const body = {
      schemaVersion: 2,
      mediaType,
      artifactType: options.artifactType,
      config: descriptor(config),
      layers: layers.map(descriptor),
      subject: options.subject && descriptor(options.subject),
      annotations: options.annotations,
    };
    return { ...this.addManifest(repository, tag, body, mediaType, options), config, layers };
  }

  /** Adds an OCI index or, with `mediaTypes: 'docker'`, a manifest list. */
  addIndex(
    repository: string,
    tag: string | undefined,
    entries: readonly IndexEntry[],
    options: ManifestOptions & { readonly mediaTypes?: 'oci' | 'docker' } = {},
  ): AddedManifest {
    const mediaType = options.mediaTypes === 'docker' ? dockerManifestList : ociIndex;
    const manifests = entries.map(({ manifest, platform }) => ({ ...descriptor(manifest), platform }));
    return this.addManifest(repository, tag, { schemaVersion: 2, mediaType, manifests }, mediaType, options);
  }

  /** Adds an artifact that refers to `subject`, and lists it under the fallback tag where those are kept. */
  addReferrer(
    repository: string,
    subject: Added,
    options: ImageOptions & { readonly artifactType: string },
  ): AddedImage {
    const added = this.addImage(repository, undefined, { config: '{}', ...options, subject });
    if (this.keepFallbackTags) {
      const body = this.referrers(repository, subject.digest);
      this.addManifest(repository, fallbackTag(subject.digest), body, ociIndex);
    }
    return added;
  }

  blob(repository: string, digest: string): AddedBlob | undefined {
    const stored = this.#blobs.get(digest);
    return stored?.repositories?.has(repository) === false ? undefined : stored?.blob;
  }

  /** @param accepted media types in `Accept`, which choose among the variants of a tag */
  manifest(repository: string, reference: string, accepted: readonly string[] = []): AddedManifest | undefined {
    const manifests = this.#manifests.get(repository);
    const variants = (this.#tags.get(repository)?.get(reference) ?? [reference])
      .map((digest) => manifests?.get(digest))
      .filter((manifest) => manifest !== undefined);
    return variants.find((manifest) => accepted.includes(manifest.mediaType)) ?? variants.at(-1);
  }

  /** Tags in the order that a registry lists them, or undefined for a repository that is not here. */
  tags(repository: string): string[] | undefined {
    const tags = this.#tags.get(repository);
    if (tags === undefined && !this.#manifests.has(repository)) return undefined;
    return [...(tags?.keys() ?? [])].sort();
  }

  /** The answer of the referrers API (distribution-spec, "Listing Referrers"). */
  referrers(repository: string, subject: string, artifactType?: string): object {
    const manifests = [...(this.#manifests.get(repository)?.values() ?? [])].flatMap((manifest) => {
      const body = JSON.parse(manifest.bytes.toString()) as ReferrerBody;
      if (body.subject?.digest !== subject) return [];
      const type = body.artifactType ?? body.config?.mediaType;
      if (artifactType !== undefined && type !== artifactType) return [];
      return [{ ...descriptor(manifest), artifactType: type, annotations: body.annotations }];
    });
    return { schemaVersion: 2, mediaType: ociIndex, manifests };
  }

  #adopt(content: BlobContent | AddedBlob, options: BlobOptions): AddedBlob {
    if (typeof content !== 'object' || !('source' in content)) return this.addBlob(content, options);
    return this.#link(content, options.repository);
  }

  #link(blob: AddedBlob, repository: string | undefined): AddedBlob {
    const stored = this.#blobs.get(blob.digest);
    if (repository === undefined) this.#blobs.set(blob.digest, { blob, repositories: undefined });
    else if (stored === undefined) this.#blobs.set(blob.digest, { blob, repositories: new Set([repository]) });
    else stored.repositories?.add(repository);
    return blob;
  }
}

interface ReferrerBody {
  readonly subject?: { readonly digest?: string };
  readonly artifactType?: string;
  readonly config?: { readonly mediaType?: string };
  readonly annotations?: Readonly<Record<string, string>>;
}

/** The tag that stands in for the referrers API: the algorithm and at most 64 hexadecimal digits. */
export function fallbackTag(digest: string): string {
  const [algorithm = '', hex = ''] = digest.split(':');
  return `${algorithm}-${hex.slice(0, 64)}`;
}

function descriptor(added: Added): { mediaType: string; digest: string; size: number } {
  return { mediaType: added.mediaType, digest: added.digest, size: added.size };
}

function entryOf<Key, Value>(map: Map<Key, Value>, key: Key, create: () => Value): Value {
  const present = map.get(key);
  if (present !== undefined) return present;
  const created = create();
  map.set(key, created);
  return created;
}
