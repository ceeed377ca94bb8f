import type { Listings } from '../../../mirror/listings.ts';
import type { ManifestReply, Manifests } from '../../../mirror/manifests.ts';
import type { Outcome } from '../../../mirror/outcome.ts';
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
import type { Repository } from '../../../upstream/repository.ts';
import { allOf } from '../../../waiting/slots.ts';

/** Maximum manifests of one image, including its referrers and theirs. */
const maxManifests = 10_000;
/** Maximum pages of referrers for one manifest. */
const maxPages = 100;
/** An index in an index in an index: deeper than any tool builds. */
const maxNesting = 4;
/** The signature of an image's SBOM is at depth 2. */
const maxReferrerDepth = 4;
/** Suffixes of the tags under which cosign stores artifacts beside an image. */
const cosignSuffixes = ['.sig', '.att', '.sbom'] as const;

export interface WalkOptions {
  /** Requested images of an index; empty: all. */
  readonly platforms: readonly Platform[];
  /** Whether to include signatures and other referrers. */
  readonly referrers: boolean;
  /** Whether to include layers that registries need not hold. */
  readonly nondistributable: boolean;
}

/** The parts of an image. Its manifests are stored. */
export interface WalkedImage {
  readonly digest: Digest;
  readonly manifests: number;
  /** Their digests. */
  readonly manifestDigests: readonly Digest[];
  /** How many of these refer to the image or to its referrers. */
  readonly referrers: number;
  /** Each once. */
  readonly blobs: readonly WalkedBlob[];
  /** Requested platforms that it does not have, if it has others. */
  readonly lacks: readonly string[];
  /** Listed referrers that cannot be fetched: the upstream may have deleted them since. */
  readonly leftOut: readonly LeftOut[];
}

export interface WalkedBlob extends Descriptor {
  /** The manifest that needs it, if only an attachment does. */
  readonly attachment: Digest | undefined;
}

/** A manifest that is an attachment, and why it is left out. */
export interface LeftOut {
  readonly digest: Digest;
  readonly reason: string;
}

export interface WalkDependencies {
  readonly manifests: Manifests;
  readonly listings: Listings;
  /** Runs a request to an upstream, with retries. */
  readonly ask: <Value>(work: () => Promise<Value>) => Promise<Value>;
  readonly signal: AbortSignal;
  /** Wall clock in milliseconds. */
  readonly now: () => number;
}

/** Where in an image a manifest was found. */
interface Place {
  /** 0: the image itself; 1: its referrers; 2: their referrers. */
  readonly depth: number;
  readonly nesting: number;
}

/**
 * Fetches all manifests of an image, as a client would that wants everything: an index with the images of the chosen
 * platforms, their referrers, and the referrers of those. Each manifest is requested once.
 * @throws RegistryError, the first that occurred; the signal's reason
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
      manifestDigests: [...this.#visited.keys()],
      referrers: this.#referrers,
      blobs: [...this.#blobs.values()],
      lacks: this.#lacks,
      leftOut: [...this.#leftOut.values()],
    };
  }

  /** Continues from a stored manifest. */
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

  /** Records a blob that a manifest needs. */
  #need({ digest, size, mediaType }: Descriptor, manifest: Digest, { depth }: Place): void {
    if (depth > 0 && this.#blobs.has(digest)) return;
    this.#blobs.set(digest, { digest, size, mediaType, attachment: depth > 0 ? manifest : undefined });
  }

  /** Records a manifest. @returns false if it is known already. @throws RegistryError if there are too many */
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

  /** The referrers in the referrers API or under its fallback tag (distribution-spec, "Listing Referrers"). */
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

  /** An image is complete without attachments that its upstream lists but does not have. */
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

  /** Artifacts that cosign stores under a tag made from the digest. */
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

  /** The requested entries of an index. Referrers of the image are requested for all platforms. */
  #chosen(all: readonly IndexEntry[], { depth, nesting }: Place): readonly IndexEntry[] {
    const { platforms, referrers } = this.#options;
    if (depth > 0) return all;
    const { entries, lacks } = chooseEntries(all, { platforms, attestations: referrers });
    // An index in an index may have nothing that is requested.
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
 * A stale answer is good enough for a waiting client, but not for a fetch, which wants the current content.
 * @throws RegistryError UNAVAILABLE for an unconfirmed reply, with the pause that the upstream has asked for
 */
export function confirmed<Reply extends { readonly outcome: Outcome }>(
  { upstream, key }: Repository,
  reply: Reply,
  now: () => number,
): Reply {
  // A tag that is being revalidated in the background will be confirmed in a moment.
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
