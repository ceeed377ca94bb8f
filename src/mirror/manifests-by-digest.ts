import { type Digest, digestAlgorithm, digestOf } from '../oci/digest.ts';
import { hasReason, isTransient, RegistryError } from '../oci/error.ts';
import { manifestAccept } from '../oci/media-types.ts';
import { SharedManifests } from '../replicas/shared-manifests.ts';
import type { ManifestAnswer } from '../upstream/client.ts';
import type { Repository } from '../upstream/repository.ts';
import { withDeadline } from '../waiting/deadline.ts';
import { SingleFlight } from '../waiting/single-flight.ts';
import type { Completeness } from './completeness.ts';
import { Content, type Inquiry, type Waiting } from './content.ts';
import type { KeptManifest, KeptManifests } from './kept-manifests.ts';
import type { Outcome } from './outcome.ts';
import type { MirrorParts } from './parts.ts';

export interface ManifestsByDigestOptions
  extends Pick<MirrorParts, 'catalog' | 'replicas' | 'questions' | 'gone' | 'offline' | 'now'> {
  readonly kept: KeptManifests;
  readonly completeness: Completeness;
}

/** A manifest, and how it came about. */
export interface FoundManifest extends KeptManifest {
  readonly outcome: Outcome;
}

/** How a manifest is asked for. */
export interface ManifestQuestion {
  readonly waiting: Waiting;
  /** Whether the upstream has just said that a tag of this repository stands for it. */
  readonly isConfirmed: boolean;
  /** The media types that the client accepts beyond those that upstreams are asked for. */
  readonly accept?: readonly string[] | undefined;
}

/** Manifests through one repository by digest: stored for ever, once they are stored. */
export class ManifestsByDigest {
  readonly content: Content<void>;
  readonly #options: ManifestsByDigestOptions;
  readonly #shared: SharedManifests;
  readonly #fetches = new SingleFlight<FoundManifest>();

  constructor(options: ManifestsByDigestOptions) {
    const { catalog, kept, replicas } = options;
    this.#options = options;
    this.#shared = new SharedManifests(replicas);
    this.content = new Content({
      ...options,
      kind: 'manifest',
      coordinator: replicas.coordinator,
      inquiry: new ManifestInquiry(kept),
      grant: (repository, digest) => catalog.manifests.share(repository, digest),
    });
  }

  /**
   * The manifest in memory, where the repository may read all that it names; while no upstream can be asked, only that of an
   * image that is known to be whole.
   */
  atHand(repository: Repository, digest: Digest): FoundManifest | undefined {
    const { catalog, kept, completeness, offline } = this.#options;
    const { key, name, upstream } = repository;
    if (!catalog.grants.isReadableWhole(key, digest)) return undefined;
    const isAway = offline || !upstream.isAvailableFor(name);
    if (isAway && !completeness.isKnownWhole(key, digest)) return undefined;
    const manifest = kept.inMemory(digest);
    return manifest && { ...manifest, outcome: 'hit' };
  }

  /** @throws RegistryError MANIFEST_UNKNOWN, DENIED, TOOMANYREQUESTS, UNAVAILABLE; the signal's reason */
  async get(repository: Repository, digest: Digest, question: ManifestQuestion): Promise<FoundManifest> {
    const { waiting } = question;
    const kept = await this.#options.kept.get(digest);
    if (kept) {
      await this.#requireRight(repository, digest, question);
      await this.requireCompletable(repository, digest, { kept, waiting });
      return { ...kept, outcome: 'hit' };
    }
    const how = question.accept?.join(',') ?? '';
    const fetch = (): Promise<FoundManifest> => this.#fetch(repository, digest, question);
    const work = () => this.#fetches.run(`${repository.key} ${digest} ${how}`, fetch, waiting);
    return await this.content.fetch(repository, digest, { how, work });
  }

  /**
   * Refuses to start a pull that cannot complete: some clients choose between this mirror and another place when they ask for
   * the manifest, and never again. Costs nothing as long as the upstream is not known to be in trouble.
   * @throws RegistryError what the upstream says, or MANIFEST_UNKNOWN where no upstream may be asked
   */
  async requireCompletable(
    repository: Repository,
    digest: Digest,
    { kept, waiting }: { kept?: KeptManifest; waiting: Waiting },
  ): Promise<void> {
    const { offline, completeness } = this.#options;
    if (!offline && repository.upstream.isAvailableFor(repository.name)) return;
    if (completeness.isKnownWhole(repository.key, digest)) return;
    const manifest = kept ?? (await this.#options.kept.get(digest));
    if (manifest) {
      // The client may need the manifest alone, and asks elsewhere for blobs that are not here.
      if (waiting.canFallBack === true && !offline) return;
      const missing = await completeness.firstMissing(repository.key, manifest);
      if (missing === undefined) return;
      if (offline) {
        throw new RegistryError(
          'offline',
          `this mirror is offline and lacks a part of ${repository.key}@${digest}: ${missing.digest}`,
          { detail: { missing: missing.digest, size: missing.size } },
        );
      }
    }
    // Refused at once while nothing is sent to this upstream; otherwise the one request that finds out whether it is back.
    await this.content.ask(repository, digest, waiting);
  }

  /** Makes sure that a stored manifest, and all that it names, may be read through a repository. @throws RegistryError */
  async #requireRight(
    repository: Repository,
    digest: Digest,
    { waiting, isConfirmed }: ManifestQuestion,
  ): Promise<void> {
    const { catalog } = this.#options;
    const { key, upstream } = repository;
    if (!catalog.blobs.isShown(digest, upstream.name)) {
      await this.content.requireShown(repository, digest, waiting);
      return;
    }
    if (catalog.grants.mayReadAll(key, digest)) return;
    try {
      if (!isConfirmed) await this.content.confirm(repository, digest, waiting);
    } catch (error) {
      // A manifest that an index of this repository names may be read; its own parts are asked for one by one.
      if (catalog.grants.mayRead(key, digest)) return;
      throw error;
    }
    await catalog.manifests.share(key, digest);
  }

  async #fetch(
    repository: Repository,
    digest: Digest,
    { isConfirmed, accept }: ManifestQuestion,
  ): Promise<FoundManifest> {
    const { catalog, kept } = this.#options;
    const { answerMs } = repository.upstream;
    return await withDeadline(
      async (signal) => {
        // Only the upstream can say that this repository has it: to this replica, or to one that asks it in the same way.
        const isOurs =
          isConfirmed ||
          catalog.grants.mayRead(repository.key, digest) ||
          (await this.content.isVouched(repository, digest, { signal, amongHolders: true }));
        await using turn = isOurs ? await this.#shared.fetch(repository, digest, signal) : undefined;
        if (turn?.answer) return await this.#keepShared(repository, digest, turn.answer);
        try {
          const answer = await getAny(repository, digest, { accept, signal });
          const { manifest, isKept } = await kept.keep(repository, answer, digest);
          await this.content.noteConfirmed(repository, digest);
          if (isKept) await this.#shared.announce(digest);
          return { ...manifest, outcome: 'miss' };
        } catch (error) {
          if (isOurs || !isTransient(error)) throw error;
          if (!(await this.content.isVouched(repository, digest, { signal, amongHolders: false }))) throw error;
          await using lent = await this.#shared.fetch(repository, digest, signal);
          if (!lent?.answer) throw error;
          return await this.#keepShared(repository, digest, lent.answer);
        }
      },
      { answerMs },
    );
  }

  async #keepShared(repository: Repository, digest: Digest, answer: ManifestAnswer): Promise<FoundManifest> {
    const { manifest } = await this.#options.kept.keep(repository, answer, digest, { isShared: true });
    return { ...manifest, outcome: 'peer' };
  }
}

/** Asks upstreams about manifests. */
class ManifestInquiry implements Inquiry<void> {
  vouched(): void {}

  readonly #kept: KeptManifests;

  constructor(kept: KeptManifests) {
    this.#kept = kept;
  }

  async ask({ upstream, name }: Repository, digest: Digest, signal: AbortSignal): Promise<void> {
    await upstream.client.headManifest(name, digest, { accept: manifestAccept, signal });
  }

  async compare(repository: Repository, digest: Digest, signal: AbortSignal): Promise<boolean> {
    const { bytes } = await getAny(repository, digest, { signal });
    this.#kept.received(repository, bytes.length);
    return digestOf(bytes, digestAlgorithm(digest)) === digest;
  }
}

/** Gets a manifest with our own list of types; where the upstream has none of them, with that of the client. */
async function getAny(
  { upstream, name }: Repository,
  digest: Digest,
  { accept = [], signal }: { accept?: readonly string[] | undefined; signal: AbortSignal },
): Promise<ManifestAnswer> {
  try {
    return await upstream.client.getManifest(name, digest, { accept: manifestAccept, signal });
  } catch (error) {
    if (accept.length === 0 || !hasReason(error, 'not-found', 'bad-status')) throw error;
    return await upstream.client.getManifest(name, digest, { accept, signal });
  }
}
