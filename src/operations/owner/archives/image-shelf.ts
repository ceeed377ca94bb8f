import type { HostedRegistry } from '../../../hosted/hosted-registry.ts';
import { Completeness, type Seen } from '../../../mirror/completeness.ts';
import { type KeptManifest, KeptManifests } from '../../../mirror/kept-manifests.ts';
import { type Descriptor, isElsewhere, readManifest } from '../../../oci/descriptor.ts';
import type { Digest } from '../../../oci/digest.ts';
import type { Catalog } from '../../../store/catalog/catalog.ts';
import type { BlobStore } from '../../../store/files/blob-store.ts';

/** Deepest nesting of hosted indexes that is followed. */
const maxDepth = 4;

type Maybe<Value> = Value | Promise<Value>;

/** A place that has images. Reading it counts as no use and contacts no upstream. */
export interface ImageShelf {
  /** Where it is, and how images get there, for errors. */
  readonly place: string;
  readonly advice: string;
  tags(repository: string): Maybe<readonly string[]>;
  tag(repository: string, tag: string): Maybe<Digest | undefined>;
  /** A manifest that the repository has. */
  manifest(repository: string, digest: Digest): Promise<KeptManifest | undefined>;
  /** Whether the repository has a blob in its right size. */
  hasBlob(repository: string, blob: Descriptor): Promise<boolean>;
  /** Whether the repository has a manifest with all that it needs. */
  isWhole(repository: string, manifest: Descriptor, seen: Seen): Promise<boolean>;
  /** The parts that a manifest needs and the repository lacks. */
  missing(repository: string, manifest: KeptManifest, seen: Seen): AsyncIterable<Pick<Descriptor, 'digest'>>;
  referrers(repository: string, subject: Digest): Maybe<readonly { readonly digest: Digest }[]>;
  /** Size of a blob in bytes. */
  size(repository: string, digest: Digest): Promise<number | undefined>;
}

/** The images of upstreams that are in the cache. */
export class CachedShelf implements ImageShelf {
  readonly place = 'in the cache';
  readonly advice = 'fetch it first';
  readonly #parts: { readonly store: BlobStore; readonly catalog: Catalog };
  readonly #kept: KeptManifests;
  readonly #completeness: Completeness;

  constructor(parts: { readonly store: BlobStore; readonly catalog: Catalog }) {
    this.#parts = parts;
    this.#kept = new KeptManifests({ ...parts, report: ignore });
    this.#completeness = new Completeness({ ...parts, kept: this.#kept });
  }

  tags(repository: string): string[] {
    return [...this.#parts.catalog.tags.names(repository)];
  }

  tag(repository: string, tag: string): Digest | undefined {
    return this.#parts.catalog.tags.get({ repository, tag, variant: '' })?.digest;
  }

  async manifest(repository: string, digest: Digest): Promise<KeptManifest | undefined> {
    return this.#parts.catalog.grants.mayRead(repository, digest) ? await this.#kept.peek(digest) : undefined;
  }

  async hasBlob(repository: string, blob: Descriptor): Promise<boolean> {
    return await this.#completeness.hasBlob(repository, blob);
  }

  async isWhole(repository: string, manifest: Descriptor, seen: Seen): Promise<boolean> {
    return await this.#completeness.isWhole(repository, manifest, seen);
  }

  missing(repository: string, manifest: KeptManifest, seen: Seen): AsyncIterable<Descriptor> {
    return this.#completeness.missing(repository, manifest, seen);
  }

  referrers(repository: string, subject: Digest): readonly { readonly digest: Digest }[] {
    return this.#parts.catalog.manifests.referrers(repository, subject);
  }

  async size(_repository: string, digest: Digest): Promise<number | undefined> {
    await using blob = await this.#parts.store.open(digest);
    return blob?.size;
  }
}

/** The images of hosted repositories. */
export class HostedShelf implements ImageShelf {
  readonly place = 'in its hosted repository';
  readonly advice = 'push it first';
  readonly #registry: HostedRegistry;

  constructor(registry: HostedRegistry) {
    this.#registry = registry;
  }

  async tags(repository: string): Promise<readonly string[]> {
    return await this.#registry.repositories.tags(repository);
  }

  async tag(repository: string, tag: string): Promise<Digest | undefined> {
    return (await this.#registry.repositories.tag(repository, tag))?.digest;
  }

  async manifest(repository: string, digest: Digest): Promise<KeptManifest | undefined> {
    const found = await this.#registry.manifests.get(repository, { digest });
    return found && { ...found, size: found.bytes.length };
  }

  async hasBlob(repository: string, { digest, size }: Descriptor): Promise<boolean> {
    const found = await this.size(repository, digest);
    return found !== undefined && (size < 0 || found === size);
  }

  async isWhole(repository: string, { digest }: Descriptor, seen: Seen): Promise<boolean> {
    const known = seen.whole.get(digest);
    if (known !== undefined) return known;
    if (seen.depth > maxDepth) return false;
    const isWhole = await this.#isWhole(repository, digest, seen);
    seen.whole.set(digest, isWhole);
    return isWhole;
  }

  async *missing(repository: string, manifest: KeptManifest, seen: Seen): AsyncGenerator<Descriptor> {
    const { blobs, manifests } = readManifest(manifest.bytes, manifest.contentType);
    for (const blob of blobs) if (!isElsewhere(blob) && !(await this.hasBlob(repository, blob))) yield blob;
    const within = { ...seen, depth: seen.depth + 1 };
    // As in the cache, an index is whole if one of its images is.
    for (const child of manifests) if (await this.isWhole(repository, child, within)) return;
    yield* manifests;
  }

  async referrers(repository: string, subject: Digest): Promise<readonly { readonly digest: Digest }[]> {
    return await this.#registry.manifests.referrers(repository, subject);
  }

  async size(repository: string, digest: Digest): Promise<number | undefined> {
    return (await this.#registry.blobs.get(repository, digest))?.size;
  }

  async #isWhole(repository: string, digest: Digest, seen: Seen): Promise<boolean> {
    const manifest = await this.manifest(repository, digest);
    if (manifest === undefined) return false;
    for await (const _ of this.missing(repository, manifest, seen)) return false;
    return true;
  }
}

function ignore(): void {}
