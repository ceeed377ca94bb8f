import type { Listings } from '../../../mirror/listings.ts';
import type { ManifestReply, Manifests } from '../../../mirror/manifests.ts';
import type { Outcome } from '../../../mirror/outcome.ts';
import type { Repository } from '../../../mirror/repository.ts';
import { type Descriptor, isElsewhere, readManifest } from '../../../oci/descriptor.ts';
import { type Digest, digestAlgorithm, digestHex } from '../../../oci/digest.ts';
import { RegistryError } from '../../../oci/error.ts';
import { ociIndex } from '../../../oci/media-types.ts';
import {
  chooseEntries,
  formatPlatform,
  type IndexEntry,
  indexEntries,
  isImage,
  type Platform,
} from '../../../oci/platform.ts';
import { isTag } from '../../../oci/reference.ts';
import type { ManifestReference } from '../../../oci/request.ts';
import { allOf } from '../../../waiting/slots.ts';

/** Manifests that one image may consist of, its referrers and theirs included. */
const maxManifests = 10_000;
/** Pages of referrers that are read for one manifest. */
const maxPages = 100;
/** An index in an index in an index: deeper than anybody builds. */
const maxNesting = 4;
/** The signature of a list of contents of an image is at 2. */
const maxReferrerDepth = 4;
/** What cosign keeps beside an image under tags of its own. */
const cosignSuffixes = ['.sig', '.att', '.sbom'] as const;

export interface WalkOptions {
  /** Images of an index that are wanted; none: all. */
  readonly platforms: readonly Platform[];
  /** Whether signatures and whatever else refers to the image belong to it. */
  readonly referrers: boolean;
  /** Whether layers are wanted that registries need not hold. */
  readonly nondistributable: boolean;
}

/** What an image consists of. Its manifests are here. */
export interface WalkedImage {
  readonly digest: Digest;
  readonly manifests: number;
  /** How many of these refer to the image or to what refers to it. */
  readonly referrers: number;
  /** Each once. */
  readonly blobs: readonly WalkedBlob[];
  /** Platforms that were wanted and that it is not made for, where it is for others. */
  readonly lacks: readonly string[];
  /** What is listed as referring to it and cannot be had: an upstream may have deleted it since. */
  readonly leftOut: readonly LeftOut[];
}

export interface WalkedBlob extends Descriptor {
  /** The manifest that needs it, where only something that goes with the image does. */
  readonly attachment: Digest | undefined;
}

/** A manifest that belongs to an image only as something that goes with it, and why it does not come along. */
export interface LeftOut {
  readonly digest: Digest;
  readonly reason: string;
}

export interface WalkDependencies {
  readonly manifests: Manifests;
  readonly listings: Listings;
  /** Does what asks an upstream, with patience. */
  readonly ask: <Value>(work: () => Promise<Value>) => Promise<Value>;
  readonly signal: AbortSignal;
  /** Wall clock in milliseconds. */
  readonly now: () => number;
}

/** Where in an image a manifest was found. */
interface Place {
  /** 0: the image itself; 1: what refers to it; 2: what refers to that. */
  readonly depth: number;
  readonly nesting: number;
}

/**
 * Brings all manifests of an image here, as a client would that wants all of it: an index with the images of the chosen
 * platforms, what refers to any of them, and what refers to that. Each manifest is asked for once.
 * @throws RegistryError, the first that was met; the signal's reason
 */
export async function walkImage(
  target: Repository,
  reference: ManifestReference,
  dependencies: WalkDependencies & WalkOptions,
): Promise<WalkedImage> {
  const { manifests, ask, signal, now } = dependencies;
  const root = await ask(async () =>
    reference.kind === 'digest'
      ? await manifests.byDigest(target, reference.digest, { signal })
      : confirmed(target, await manifests.byTag(target, reference.tag, { accept: '', signal }), now),
  );
  const walk = new Walk(target, dependencies);
  await walk.follow(root, { depth: 0, nesting: 0 });
  return { digest: root.digest, ...walk.found };
}

class Walk {
  readonly #target: Repository;
  readonly #options: WalkDependencies & WalkOptions;
  readonly #visited = new Set<Digest>();
  readonly #blobs = new Map<Digest, WalkedBlob>();
  readonly #leftOut = new Map<Digest, LeftOut>();
  #lacks: readonly string[] = [];
  #referrers = 0;

  constructor(target: Repository, options: WalkDependencies & WalkOptions) {
    this.#target = target;
    this.#options = options;
  }

  get found(): Omit<WalkedImage, 'digest'> {
    return {
      manifests: this.#visited.size,
      referrers: this.#referrers,
      blobs: [...this.#blobs.values()],
      lacks: this.#lacks,
      leftOut: [...this.#leftOut.values()],
    };
  }

  /** Goes on from a manifest that is here. */
  async follow(manifest: ManifestReply, place: Place): Promise<void> {
    const { digest, bytes, contentType } = manifest;
    if (!this.#enter(digest, place)) return;
    for (const blob of readManifest(bytes, contentType).blobs) {
      if (this.#options.nondistributable || !isElsewhere(blob)) this.#need(blob, digest, place);
    }
    const work: Promise<void>[] = [];
    for (const child of this.#chosen(indexEntries(bytes, contentType), place)) {
      work.push(this.#visit(child.digest, { ...place, nesting: place.nesting + 1 }));
    }
    if (this.#options.referrers && place.depth < maxReferrerDepth) {
      work.push(this.#followListed(digest, place.depth + 1));
      for (const suffix of cosignSuffixes) work.push(this.#followTag(digest, suffix, place.depth + 1));
    }
    await allOf(work);
  }

  /** Notes a blob that a manifest needs. */
  #need({ digest, size, mediaType }: Descriptor, manifest: Digest, { depth }: Place): void {
    if (depth > 0 && this.#blobs.has(digest)) return;
    this.#blobs.set(digest, { digest, size, mediaType, attachment: depth > 0 ? manifest : undefined });
  }

  /** Notes a manifest. @returns false where it has been seen. @throws RegistryError where there are too many */
  #enter(digest: Digest, { depth, nesting }: Place): boolean {
    if (this.#visited.has(digest)) return false;
    if (this.#visited.size >= maxManifests || nesting > maxNesting) {
      throw new RegistryError('bad-manifest', `${this.#target.key} is nested too deeply or names too many manifests`);
    }
    this.#visited.add(digest);
    if (depth > 0) this.#referrers += 1;
    return true;
  }

  async #visit(digest: Digest, place: Place): Promise<void> {
    if (this.#visited.has(digest)) return;
    const { manifests, ask, signal } = this.#options;
    await this.follow(await ask(() => manifests.byDigest(this.#target, digest, { signal })), place);
  }

  /** What the referrers API or its fallback tag lists (distribution-spec, "Listing Referrers"). */
  async #followListed(subject: Digest, depth: number): Promise<void> {
    const { listings, ask, signal, now } = this.#options;
    const queries = new Set<string>(['']);
    const found = new Set<Digest>();
    for (const query of queries) {
      const page = await ask(async () =>
        confirmed(this.#target, await listings.referrers(this.#target, subject, { query, signal }), now),
      );
      for (const { digest } of indexEntries(page.bytes, ociIndex)) found.add(digest);
      if (page.nextQuery !== undefined) queries.add(page.nextQuery);
      if (queries.size > maxPages || found.size > maxManifests) {
        throw new RegistryError('too-large', `${this.#target.key}@${subject} has too many referrers`);
      }
    }
    await allOf(found.values().map((digest) => this.#visitListed(digest, { subject, depth })));
  }

  /** An image is whole without what its upstream lists and does not have. */
  async #visitListed(digest: Digest, { subject, depth }: { subject: Digest; depth: number }): Promise<void> {
    try {
      await this.#visit(digest, { depth, nesting: 0 });
    } catch (error) {
      if (!(await this.#isAbsence(subject, error))) throw error;
      this.#leftOut.set(digest, { digest, reason: (error as Error).message });
    }
  }

  #isAbsence(subject: Digest, error: unknown): Promise<boolean> {
    const { manifests, ask, signal } = this.#options;
    return ask(() => manifests.isAbsence(this.#target, subject, { error, signal }));
  }

  /** What cosign keeps under a tag made of the digest. */
  async #followTag(subject: Digest, suffix: string, depth: number): Promise<void> {
    const tag = `${digestAlgorithm(subject)}-${digestHex(subject)}${suffix}`;
    if (!isTag(tag)) return;
    const { manifests, ask, signal, now } = this.#options;
    let manifest: ManifestReply;
    try {
      manifest = await ask(async () =>
        confirmed(this.#target, await manifests.byTag(this.#target, tag, { accept: '', signal }), now),
      );
    } catch (error) {
      if (await this.#isAbsence(subject, error)) return;
      throw error;
    }
    await this.follow(manifest, { depth, nesting: 0 });
  }

  /** What of an index is wanted. What refers to the image is wanted for all platforms. */
  #chosen(all: readonly IndexEntry[], { depth, nesting }: Place): readonly IndexEntry[] {
    const { platforms, referrers } = this.#options;
    if (depth > 0) return all;
    const { entries, lacks } = chooseEntries(all, { platforms, attestations: referrers });
    // Of an index in an index nothing may be wanted.
    if (nesting > 0 || lacks.length === 0) return entries;
    this.#lacks = lacks.map(formatPlatform);
    if (lacks.length < platforms.length) return entries;
    const has = all.filter(isImage).map(({ platform }) => formatPlatform(platform!));
    throw new RegistryError(
      'not-found',
      `there is no image for ${this.#lacks.join(', ')}; there are ${has.join(', ')}`,
    );
  }
}

/**
 * What the upstream could not confirm is good enough for a client that waits, not for who wants what there is now.
 * @throws RegistryError UNAVAILABLE for a reply that is not confirmed, with the pause that the upstream has asked for
 */
export function confirmed<Reply extends { readonly outcome: Outcome }>(
  { upstream, key }: Repository,
  reply: Reply,
  now: () => number,
): Reply {
  // What is served while the upstream is asked behind it will have been confirmed in a moment.
  if (reply.outcome !== 'stale' && reply.outcome !== 'revalidating') return reply;
  const pauses = upstream
    .status()
    .endpoints.flatMap(({ tokenService, ...registry }) =>
      [registry, tokenService].flatMap(({ state, untilMs }) =>
        state === 'limited' && untilMs ? [untilMs - now()] : [],
      ),
    );
  throw new RegistryError('unconfirmed', `upstream ${upstream.name} cannot say now what ${key} has`, {
    ...(pauses.length > 0 && { headers: { 'Retry-After': String(Math.ceil(Math.max(0, ...pauses) / 1000)) } }),
  });
}
