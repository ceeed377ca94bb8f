import { AcceptReader } from '../oci/accept.ts';
import type { Digest } from '../oci/digest.ts';
import { hasReason, isNotFound, isTransient, RegistryError } from '../oci/error.ts';
import { blobFact, nothingRemoved, rightFact, tagFact, upstreamFact } from '../oci/facts.ts';
import { manifestAccept } from '../oci/media-types.ts';
import type { ManifestReference } from '../oci/request.ts';
import { ageSecondsOf, decide, type Staleness, stalenessOf } from '../upstream/freshness.ts';
import { endOf } from '../upstream/rate-limit.ts';
import type { Repository } from '../upstream/repository.ts';
import { AnswerBudget } from '../waiting/deadline.ts';
import { Completeness } from './completeness.ts';
import type { Content, Waiting } from './content.ts';
import { KeptManifests } from './kept-manifests.ts';
import { type FoundManifest, ManifestsByDigest } from './manifests-by-digest.ts';
import type { Outcome } from './outcome.ts';
import type { MirrorParts } from './parts.ts';
import type { Standing } from './standing.ts';
import type { ResolvedTag } from './tag-inquiry.ts';
import { Tags } from './tags.ts';

/** The errors of registries for a digest that they no longer have, or give by tag only. */
const notByDigest = ['not-found', 'denied', 'bad-status', 'bad-answer', 'wrong-bytes'] as const;

export type ManifestsOptions = Pick<
  MirrorParts,
  'store' | 'catalog' | 'replicas' | 'questions' | 'gone' | 'offline' | 'now' | 'report' | 'changes'
>;

/** The headers of a manifest, without its bytes. */
export interface ManifestHead {
  readonly digest: Digest;
  readonly size: number;
  /** The exact `Content-Type` of the upstream. */
  readonly contentType: string;
  readonly outcome: Outcome;
  /** Of a stale tag: when the upstream last confirmed it, and what the client is warned of. */
  readonly stale?: Staleness | undefined;
  /** Of a tag: how long ago the registry itself confirmed its digest. */
  readonly ageSeconds?: number;
}

export interface ManifestReply extends ManifestHead {
  readonly bytes: Buffer;
}

/** Manifests through one repository, by digest and by tag. */
export class Manifests implements AsyncDisposable {
  readonly #options: ManifestsOptions;
  readonly #kept: KeptManifests;
  readonly #completeness: Completeness;
  readonly #byDigest: ManifestsByDigest;
  readonly #tags: Tags;
  readonly #accepts = new AcceptReader();

  constructor(options: ManifestsOptions) {
    this.#options = options;
    const { replicas, offline } = options;
    const kept = new KeptManifests(options);
    const isWithOthers = (digest: Digest) => replicas.have(digest);
    const completeness = new Completeness({ ...options, kept, ...(!offline && { isWithOthers }) });
    this.#kept = kept;
    this.#completeness = completeness;
    this.#byDigest = new ManifestsByDigest({ ...options, kept, completeness });
    const { coordinator } = replicas;
    this.#tags = new Tags({ ...options, coordinator, kept, completeness, manifests: this.#byDigest });
  }

  /** The right of repositories to read manifests, and the requests to upstreams about them. */
  get content(): Content<void> {
    return this.#byDigest.content;
  }

  /** Whether a digest is known to be a manifest, of whatever repository. */
  isManifest(digest: Digest): boolean {
    return this.#options.catalog.manifests.has(digest);
  }

  /**
   * The answer that needs no waiting, nearly always: a manifest in memory, by its digest or by a tag that is fresh.
   * @param accept as of {@link byTag}
   * @returns `undefined` where {@link byDigest} or {@link byTag} has to be asked
   */
  atHand(repository: Repository, reference: ManifestReference, accept: string): ManifestReply | undefined {
    if (reference.kind === 'digest') return this.#byDigest.atHand(repository, reference.digest);
    const record = this.#tags.fresh(repository, reference.tag, accept);
    const found = record && this.#byDigest.atHand(repository, record.digest);
    return found && { ...found, ...ageSecondsOf(record, this.#options) };
  }

  /** How an answer of {@link atHand} stands. To be called in the same turn of the event loop. */
  standing({ key, upstream, name }: Repository, reference: ManifestReference, { digest }: ManifestReply): Standing {
    const { offline } = this.#options;
    const facts = [blobFact(digest), rightFact(key, digest), upstreamFact(upstream.name)];
    // While no upstream can be asked, it stands for a whole image.
    if (offline || !upstream.isAvailableFor(name)) facts.push(nothingRemoved);
    // The answer says how many pulls the upstream has left, as long as that is known.
    const limitedUntilMs = upstream.rateLimit ? endOf(upstream.rateLimit) : Number.POSITIVE_INFINITY;
    if (reference.kind === 'digest') return { digest, facts, untilMs: limitedUntilMs };
    const { tag } = reference;
    const confirmedAtMs = this.#options.catalog.tags.get({ repository: key, tag, variant: '' })?.checkedAtMs ?? 0;
    const { tagTtlMs } = decide(upstream.freshness, { repository: name, tag }).times;
    facts.push(tagFact(key, tag));
    // Offline a tag is as fresh as it can be, and its answer does not tell an age.
    if (offline) return { digest, facts, untilMs: limitedUntilMs };
    const untilMs = Math.min(confirmedAtMs + tagTtlMs, limitedUntilMs);
    return { digest, facts, sinceMs: confirmedAtMs, untilMs, confirmedAtMs };
  }

  /**
   * A manifest by its digest: stored for ever, once it is stored.
   * @param options `accept`: as of {@link byTag}
   * @throws RegistryError MANIFEST_UNKNOWN, DENIED, TOOMANYREQUESTS, UNAVAILABLE; the signal's reason
   */
  byDigest(repository: Repository, digest: Digest, options: Waiting & { accept?: string }): Promise<ManifestReply> {
    return this.#byDigest.get(repository, digest, {
      waiting: options,
      isConfirmed: false,
      accept: this.#accepts.beyond(options.accept ?? '', manifestAccept),
    });
  }

  /**
   * A manifest by tag, as old as the times of its tag allow, or older where the upstream cannot answer.
   * @param options `accept`: the client's `Accept` headers; empty where it sent none
   * @throws RegistryError as {@link byDigest}
   */
  async byTag(repository: Repository, tag: string, options: Waiting & { accept: string }): Promise<ManifestReply> {
    using waiting = new AnswerBudget({ answerMs: repository.upstream.answerMs, waiting: options });
    const resolved = await this.#tags.resolve(repository, tag, { accept: options.accept, waiting, isWanted: true });
    const { outcome, stale, previous } = resolved;
    try {
      const manifest = await this.#resolved(repository, resolved, waiting);
      this.#tags.adopt(resolved);
      const own = manifest.outcome === 'hit' ? outcome : manifest.outcome;
      return { ...manifest, outcome: own, stale, ...ageSecondsOf(resolved.record, this.#options) };
    } catch (error) {
      // The tag was moved, or the manifest was collected or is not served by digest: the tag is resolved again.
      if (hasReason(error, ...notByDigest)) {
        const again = this.#tags.resolveAgain(repository, resolved.key, waiting);
        const found = await (hasReason(error, 'not-found') ? again : again.catch(() => undefined));
        if (found) return { ...(await this.#resolved(repository, found, waiting)), outcome: 'miss' };
      }
      // The upstream gave a digest for the tag but not its manifest: the manifest from before is better than none.
      if (!isTransient(error) || !previous) throw error;
      const mayLack = waiting.canFallBack;
      if (!mayLack && !(await this.#completeness.isWhole(repository.key, previous.record))) throw error;
      const kept = await this.#kept.get(previous.record.digest);
      if (!kept) throw error;
      this.#options.report({ kind: 'stale-served', upstream: repository.upstream.name });
      return { ...kept, outcome: 'stale', stale: stalenessOf(repository.upstream.name, previous.ageSeconds, error) };
    }
  }

  /** The head of the answer of {@link byTag}; does not fetch a manifest that is not stored. @throws RegistryError */
  async headByTag(repository: Repository, tag: string, options: Waiting & { accept: string }): Promise<ManifestHead> {
    const { catalog } = this.#options;
    using waiting = new AnswerBudget({ answerMs: repository.upstream.answerMs, waiting: options });
    const { record, outcome, stale } = await this.#tags.resolve(repository, tag, { accept: options.accept, waiting });
    const { digest, size, contentType } = record;
    // A HEAD is no proof that the upstream has what another one has given.
    if (catalog.blobs.isShown(digest, repository.upstream.name)) await catalog.manifests.share(repository.key, digest);
    else if (catalog.blobs.get(digest) === undefined) catalog.grants.grant(repository.key, digest);
    await this.#byDigest.requireCompletable(repository, digest, { waiting });
    return { digest, size, contentType, outcome, stale, ...ageSecondsOf(record, this.#options) };
  }

  /**
   * Whether an error says that nothing is attached to a manifest: not found, or refused by an upstream that
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
      await this.content.ask(repository, subject, { signal });
      return true;
    } catch (failure) {
      if (isTransient(failure) || !(failure instanceof RegistryError)) throw failure;
      return false;
    }
  }

  /** Whether a manifest and all that it needs can be served through a repository without its upstream. */
  isWhole(repository: string, digest: Digest): Promise<boolean> {
    return this.#completeness.isWhole(repository, { digest });
  }

  /** Ends the requests in the background. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tags[Symbol.asyncDispose]();
  }

  #resolved(repository: Repository, { record }: ResolvedTag, waiting: Waiting): Promise<FoundManifest> {
    return this.#byDigest.get(repository, record.digest, { waiting, isConfirmed: true });
  }
}
