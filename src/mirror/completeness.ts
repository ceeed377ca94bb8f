import { type Descriptor, isElsewhere, type ManifestLinks, readManifest } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { emptyBlobDigest } from '../oci/empty-blob.ts';
import { DiskFault } from '../store/files/blob-store.ts';
import type { KeptManifest, KeptManifests } from './kept-manifests.ts';
import type { MirrorParts } from './parts.ts';

/** Deepest nesting of indexes that is followed. */
const maxDepth = 4;

export interface CompletenessOptions extends Pick<MirrorParts, 'store' | 'catalog'> {
  readonly kept: KeptManifests;
  /** Whether a blob that is not here can be had from another replica; absent: none counts but those that are here. */
  readonly isWithOthers?: (digest: Digest) => Promise<boolean>;
}

/** The findings so far, on the way through an image. */
export interface Seen {
  readonly whole: Map<Digest, boolean>;
  /** How many indexes lead to where we are. */
  readonly depth: number;
}

/** At the beginning. */
export function nothingSeen(): Seen {
  return { whole: new Map(), depth: 0 };
}

/** Layers of signatures and attestations: a verifier reads these, and never the config. */
const attachedLayer =
  /^application\/vnd\.(?:dev\.cosign|dsse|in-toto|cncf\.notary)|^application\/jose\+json|^application\/cose/;

/** The blobs of a manifest that a client reads. The empty blob is always at hand. */
function neededOf({ blobs, subject }: ManifestLinks): readonly Descriptor[] {
  const needed = blobs.filter(({ digest }) => digest !== emptyBlobDigest);
  const [, ...layers] = blobs;
  const types = layers.map(({ mediaType }) => mediaType ?? '');
  const isAttached = types.every((type) => attachedLayer.test(type) || (subject !== undefined && !isImageLayer(type)));
  return layers.length > 0 && isAttached ? layers.filter((layer) => needed.includes(layer)) : needed;
}

function isImageLayer(mediaType: string): boolean {
  return /image\.(?:layer|rootfs)/.test(mediaType);
}

/** Whether what a manifest names can be had, so that a client that begins with it can end without any upstream. */
export class Completeness {
  readonly #options: CompletenessOptions;

  constructor(options: CompletenessOptions) {
    this.#options = options;
  }

  /**
   * What a client would lack that pulls a manifest through a repository with no upstream to help, found one by one.
   * An index lacks nothing as long as one of the images it names is whole: which one a client will take is not known.
   * @param repository the cache's name of it
   */
  async *missing(repository: string, manifest: KeptManifest, seen: Seen = nothingSeen()): AsyncGenerator<Descriptor> {
    const links = readManifest(manifest.bytes, manifest.contentType);
    for (const blob of neededOf(links)) {
      if (!isElsewhere(blob) && !(await this.#canHave(repository, blob))) yield blob;
    }
    const within = { ...seen, depth: seen.depth + 1 };
    for (const child of links.manifests) if (await this.isWhole(repository, child, within)) return;
    yield* links.manifests;
  }

  /**
   * Whether a manifest and all that it needs is here, and may be read through a repository.
   * @param seen what has been found out about manifests through this repository: each is looked at once
   */
  async isWhole(
    repository: string,
    { digest }: Pick<Descriptor, 'digest'>,
    seen: Seen = nothingSeen(),
  ): Promise<boolean> {
    const found = seen.whole.get(digest);
    if (found !== undefined) return found;
    if (seen.depth > maxDepth) return false;
    const isWhole = await this.#isWhole(repository, digest, seen);
    seen.whole.set(digest, isWhole);
    return isWhole;
  }

  async #isWhole(repository: string, digest: Digest, seen: Seen): Promise<boolean> {
    const { catalog, kept } = this.#options;
    const manifest = await kept.peek(digest);
    // Asked last: while it was read, it may have come through another upstream.
    if (manifest === undefined || !catalog.grants.isReadable(repository, digest)) return false;
    for await (const _ of this.missing(repository, manifest, seen)) return false;
    return true;
  }

  async #canHave(repository: string, blob: Descriptor): Promise<boolean> {
    if (await this.hasBlob(repository, blob)) return true;
    const { catalog, isWithOthers } = this.#options;
    return (
      isWithOthers !== undefined &&
      catalog.grants.isReadable(repository, blob.digest) &&
      (await isWithOthers(blob.digest))
    );
  }

  /** Whether a blob is on disk in its right size, and may be read through a repository without asking an upstream. */
  async hasBlob(repository: string, { digest, size }: Descriptor): Promise<boolean> {
    const { catalog, store } = this.#options;
    try {
      await using blob = await store.open(digest);
      if (blob === undefined || (size >= 0 && blob.size !== size)) return false;
      // Asked last: while it was opened, it may have come through another upstream.
      return catalog.grants.isReadable(repository, digest);
    } catch (error) {
      if (!(error instanceof DiskFault)) throw error;
      return false;
    }
  }
}
