import { LRUCache } from 'lru-cache';
import { type Descriptor, isElsewhere, type ManifestLinks, readManifest } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { emptyBlobDigest } from '../oci/empty-blob.ts';
import { nothingRemoved, unwatched } from '../oci/facts.ts';
import { DiskFault } from '../store/files/blob-store.ts';
import type { KeptManifest, KeptManifests } from './kept-manifests.ts';
import type { MirrorParts } from './parts.ts';

/** Images of which it is remembered that they are whole. */
const maxRemembered = 10_000;
/** Deepest nesting of indexes that is followed. */
const maxDepth = 4;

export interface CompletenessOptions extends Pick<MirrorParts, 'store' | 'catalog' | 'changes'> {
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

/** Whether all parts of a manifest can be had, so that a client that begins with it needs no upstream to complete it. */
export class Completeness {
  readonly #options: CompletenessOptions;
  /** Images whose every part was on this disk, and the count of {@link nothingRemoved} when they were looked at. */
  readonly #foundWhole = new LRUCache<string, number>({ max: maxRemembered });
  /** How often a part that is not on this disk counted as one that can be had. */
  #lent = 0;

  constructor(options: CompletenessOptions) {
    this.#options = options;
  }

  /**
   * Whether a manifest and all that it needs was found on this disk, and nothing has been removed since. Reads nothing: in
   * an outage it is asked for each pull.
   */
  isKnownWhole(repository: string, digest: Digest): boolean {
    return this.#foundWhole.get(`${repository} ${digest}`) === this.#removals();
  }

  /** The first part that a client would lack, as {@link missing} finds it. */
  async firstMissing(repository: string, manifest: KeptManifest): Promise<Descriptor | undefined> {
    if (this.isKnownWhole(repository, manifest.digest)) return undefined;
    const [removals, lent] = [this.#removals(), this.#lent];
    for await (const descriptor of this.missing(repository, manifest)) return descriptor;
    if (this.#lent === lent) this.#foundWhole.set(`${repository} ${manifest.digest}`, removals);
    return undefined;
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
    if (this.isKnownWhole(repository, digest)) return true;
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
    if (isWithOthers === undefined || !catalog.grants.isReadable(repository, blob.digest)) return false;
    const isLent = await isWithOthers(blob.digest);
    if (isLent) this.#lent += 1;
    return isLent;
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

  #removals(): number {
    return (this.#options.changes ?? unwatched).count(nothingRemoved);
  }
}
