import type { Digest } from '../oci/digest.ts';
import { hasReason, isNotFound, isTransient, RegistryError } from '../oci/error.ts';
import { manifestAccept } from '../oci/media-types.ts';
import type { ManifestReference } from '../oci/request.ts';
import type { Catalog } from '../store/catalog/catalog.ts';
import type { BlobStore, DiskFault } from '../store/files/blob-store.ts';
import type { ManifestAnswer } from '../upstream/client.ts';
import { AnswerBudget, withDeadline } from '../waiting/deadline.ts';
import { SingleFlight } from '../waiting/single-flight.ts';
import type { Waiting } from './blobs.ts';
import { Completeness } from './completeness.ts';
import { type Staleness, stalenessOf } from './freshness.ts';
import { type KeptManifest, KeptManifests } from './kept-manifests.ts';
import type { NegativeAnswers } from './negative-answers.ts';
import type { Outcome } from './outcome.ts';
import type { Repository } from './repository.ts';
import type { Replicas } from './sharing/replicas.ts';
import { SharedManifests } from './sharing/shared-manifests.ts';
import { Tags } from './tags.ts';

/** Told of what is worth a number or a log line. */
export interface ManifestObserver {
  manifestReceived(upstream: string, bytes: number): void;
  staleServed(upstream: string): void;
  /** A tag that was served at once could not be confirmed behind that answer. @param repository as the cache names it */
  revalidationFailed(repository: string, event: { tag: string; error: unknown }): void;
  diskFault(error: DiskFault): void;
}

export interface ManifestsOptions {
  readonly store: BlobStore;
  readonly catalog: Catalog;
  readonly negative: NegativeAnswers;
  readonly replicas: Replicas;
  /** No upstream is ever contacted. */
  readonly offline: boolean;
  readonly now: () => number;
  readonly observer: ManifestObserver;
}

/** What a client is told about a manifest. */
export interface ManifestHead {
  readonly digest: Digest;
  readonly size: number;
  /** The exact `Content-Type` of the upstream. */
  readonly contentType: string;
  readonly outcome: Outcome;
  /** Of a stale tag: when the upstream last confirmed it, and what the client is warned of. */
  readonly stale?: Staleness | undefined;
}

export interface ManifestReply extends ManifestHead {
  readonly bytes: Buffer;
}

/** Manifests through one repository, by digest and by tag. */
export class Manifests implements AsyncDisposable {
  readonly #options: ManifestsOptions;
  readonly #kept: KeptManifests;
  readonly #completeness: Completeness;
  readonly #tags: Tags;
  readonly #shared: SharedManifests;
  readonly #fetches = new SingleFlight<ManifestReply>();
  readonly #confirmations = new SingleFlight<void>();

  constructor(options: ManifestsOptions) {
    this.#options = options;
    this.#kept = new KeptManifests(options);
    const { replicas, offline } = options;
    const isWithOthers = (digest: Digest) => replicas.have(digest);
    this.#completeness = new Completeness({ ...options, kept: this.#kept, ...(!offline && { isWithOthers }) });
    this.#shared = new SharedManifests(options.replicas);
    this.#tags = new Tags({
      ...options,
      coordinator: options.replicas.coordinator,
      kept: this.#kept,
      completeness: this.#completeness,
      fetch: (repository, record, waiting) => this.#byDigest(repository, record.digest, { waiting, isConfirmed: true }),
    });
  }

  /**
   * The answer that needs no waiting, nearly always: a manifest in memory, by its digest or by a tag that is fresh.
   * @param accept as of {@link byTag}; of no account for a digest
   * @returns `undefined` where {@link byDigest} or {@link byTag} has to be asked
   */
  atHand(repository: Repository, reference: ManifestReference, accept: string): ManifestReply | undefined {
    const { catalog, offline } = this.#options;
    if (offline || !repository.upstream.isAvailableFor(repository.name)) return undefined;
    const digest =
      reference.kind === 'digest' ? reference.digest : this.#tags.fresh(repository, reference.tag, accept)?.digest;
    if (digest === undefined || !catalog.grants.mayReadAll(repository.key, digest)) return undefined;
    const kept = this.#kept.inMemory(digest);
    return kept && { ...kept, outcome: 'hit' };
  }

  /**
   * A manifest by its digest: from here for ever, once it is here.
   * @throws RegistryError MANIFEST_UNKNOWN, DENIED, TOOMANYREQUESTS, UNAVAILABLE; the signal's reason
   */
  byDigest(repository: Repository, digest: Digest, waiting: Waiting): Promise<ManifestReply> {
    return this.#byDigest(repository, digest, { waiting, isConfirmed: false });
  }

  /** @param options `isConfirmed`: the upstream has just said that a tag of this repository stands for it */
  async #byDigest(
    repository: Repository,
    digest: Digest,
    { waiting, isConfirmed }: { waiting: Waiting; isConfirmed: boolean },
  ): Promise<ManifestReply> {
    const { negative } = this.#options;
    const kept = await this.#kept.get(digest);
    if (kept) {
      await this.#confirm(repository, digest, { waiting, isConfirmed });
      await this.#requireCompletable(repository, digest, { kept, waiting });
      return { ...kept, outcome: 'hit' };
    }
    this.#refuseOffline(repository, digest);
    const known = await negative.lookUp(repository, digest);
    if (known) throw known;
    return await this.#fetches.run(
      `${repository.key} ${digest}`,
      async () => {
        try {
          return await this.#fetch(repository, digest, { isConfirmed });
        } catch (error) {
          negative.note(repository, digest, error);
          throw error;
        }
      },
      waiting,
    );
  }

  /**
   * A manifest by tag, as old as the times of its tag allow, or older where the upstream cannot answer.
   * @param options `accept`: the client's `Accept` headers; empty where it sent none
   * @throws RegistryError as {@link byDigest}
   */
  async byTag(repository: Repository, tag: string, options: Waiting & { accept: string }): Promise<ManifestReply> {
    using waiting = new AnswerBudget({ answerMs: repository.upstream.answerMs, waiting: options });
    const resolved = await this.#tags.resolve(repository, tag, { accept: options.accept, waiting });
    const { record, outcome, stale, previous } = resolved;
    try {
      const manifest = await this.#byDigest(repository, record.digest, { waiting, isConfirmed: true });
      this.#tags.adopt(resolved);
      return { ...manifest, outcome: manifest.outcome === 'hit' ? outcome : manifest.outcome, stale };
    } catch (error) {
      // The upstream said what the tag is and then could not give it: what it was before is better than nothing.
      if (!isTransient(error) || !previous) throw error;
      if (!(await this.#completeness.isWhole(repository.key, previous.record))) throw error;
      const kept = await this.#kept.get(previous.record.digest);
      if (!kept) throw error;
      this.#options.observer.staleServed(repository.upstream.name);
      return { ...kept, outcome: 'stale', stale: stalenessOf(repository.upstream.name, previous.ageSeconds, error) };
    }
  }

  /** What {@link byTag} would answer, without fetching a manifest that is not here. @throws RegistryError */
  async headByTag(repository: Repository, tag: string, options: Waiting & { accept: string }): Promise<ManifestHead> {
    using waiting = new AnswerBudget({ answerMs: repository.upstream.answerMs, waiting: options });
    const { record, outcome, stale } = await this.#tags.resolve(repository, tag, { accept: options.accept, waiting });
    this.#options.catalog.manifests.share(repository.key, record.digest);
    await this.#requireCompletable(repository, record.digest, { waiting });
    return { digest: record.digest, size: record.size, contentType: record.contentType, outcome, stale };
  }

  /**
   * Whether an error says that nothing is there that would go with a manifest: not found, or refused by an upstream that
   * lets us have the manifest itself. Some registries refuse what they do not have.
   * @throws RegistryError TOOMANYREQUESTS, UNAVAILABLE; the signal's reason
   */
  async isAbsence(
    repository: Repository,
    subject: Digest,
    { error, signal }: Waiting & { error: unknown },
  ): Promise<boolean> {
    if (isNotFound(error)) return true;
    if (!hasReason(error, 'denied')) return false;
    try {
      await this.#askFor(repository, subject, { signal });
      return true;
    } catch (failure) {
      if (isTransient(failure) || !(failure instanceof RegistryError)) throw failure;
      return false;
    }
  }

  /** Ends what is asked behind answers that have gone out. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tags[Symbol.asyncDispose]();
  }

  /**
   * Refuses to begin an image that cannot be ended: some clients choose between this mirror and another place when they
   * ask for the manifest, and never again. Costs nothing as long as the upstream is not known to be in trouble.
   * @throws RegistryError what the upstream says, or MANIFEST_UNKNOWN where nobody may be asked
   */
  async #requireCompletable(
    repository: Repository,
    digest: Digest,
    { kept, waiting }: { kept?: KeptManifest; waiting: Waiting },
  ): Promise<void> {
    const { offline } = this.#options;
    if (!offline && repository.upstream.isAvailableFor(repository.name)) return;
    const manifest = kept ?? (await this.#kept.get(digest));
    if (manifest) {
      const { value: missing } = await this.#completeness.missing(repository.key, manifest).next();
      if (missing === undefined) return;
      if (offline) {
        throw new RegistryError(
          'offline',
          `this mirror is offline and lacks a part of ${repository.key}@${digest}: ${missing.digest}`,
          { detail: { missing: missing.digest, size: missing.size } },
        );
      }
    }
    this.#refuseOffline(repository, digest);
    // Refused at once while nobody is sent to this upstream; otherwise the one request that finds out whether it is back.
    await this.#askFor(repository, digest, waiting);
  }

  async #fetch(
    repository: Repository,
    digest: Digest,
    { isConfirmed }: { isConfirmed: boolean },
  ): Promise<ManifestReply> {
    const { catalog } = this.#options;
    const { client, answerMs } = repository.upstream;
    const ask = (signal: AbortSignal): Promise<ManifestAnswer> =>
      client.getManifest(repository.name, digest, { accept: manifestAccept, signal });
    const isOurs = isConfirmed || catalog.grants.mayRead(repository.key, digest);
    return await withDeadline(
      async (signal) => {
        // Only the upstream itself can say that this repository has it.
        const shared = isOurs ? await this.#shared.fetch(digest, signal) : undefined;
        await using turn = shared;
        if (turn?.answer) {
          const { manifest } = await this.#kept.keep(repository, turn.answer, digest, { isShared: true });
          return { ...manifest, outcome: 'peer' };
        }
        const { manifest, isKept } = await this.#kept.keep(repository, await ask(signal), digest);
        if (isKept) await turn?.stored();
        return { ...manifest, outcome: 'miss' };
      },
      { answerMs },
    );
  }

  /**
   * Sees to it that a manifest that is here is this repository's, with all that it names, by asking the upstream unless it
   * has said so.
   */
  async #confirm(
    repository: Repository,
    digest: Digest,
    { waiting, isConfirmed }: { waiting: Waiting; isConfirmed: boolean },
  ): Promise<void> {
    const { catalog } = this.#options;
    if (catalog.grants.mayReadAll(repository.key, digest)) return;
    try {
      if (!isConfirmed) await this.#askWhether(repository, digest, waiting);
    } catch (error) {
      // One that an index of this repository names may be read; what it names in turn is asked for part by part.
      if (catalog.grants.mayRead(repository.key, digest)) return;
      throw error;
    }
    catalog.manifests.share(repository.key, digest);
  }

  /** Asks the upstream whether a manifest that is here is also in this repository. @throws RegistryError */
  async #askWhether(repository: Repository, digest: Digest, waiting: Waiting): Promise<void> {
    const { negative } = this.#options;
    this.#refuseOffline(repository, digest);
    const known = negative.get(repository, digest);
    if (known) throw known;
    try {
      await this.#askFor(repository, digest, waiting);
    } catch (error) {
      negative.note(repository, digest, error);
      throw error;
    }
  }

  async #askFor(repository: Repository, digest: Digest, waiting: Waiting): Promise<void> {
    const { client, answerMs } = repository.upstream;
    const ask = (signal: AbortSignal) =>
      client.headManifest(repository.name, digest, { accept: manifestAccept, signal });
    await this.#confirmations.run(
      `${repository.key} ${digest}`,
      async () => void (await withDeadline(ask, { answerMs })),
      waiting,
    );
  }

  #refuseOffline(repository: Repository, digest: Digest): void {
    if (!this.#options.offline) return;
    throw new RegistryError('offline', `this mirror is offline and has not stored ${repository.key}@${digest}`);
  }
}
