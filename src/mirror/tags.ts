import { AcceptReader } from '../oci/accept.ts';
import { hasReason, isNotFound, isTransient, RegistryError } from '../oci/error.ts';
import { manifestAccept } from '../oci/media-types.ts';
import type { NegativeAnswers } from '../replicas/negative-answers.ts';
import { SharedTags } from '../replicas/shared-tags.ts';
import type { TagKey, TagRecord } from '../store/catalog/tag-records.ts';
import { decide, type FreshnessVerdict, freshnessOf, stalenessOf } from '../upstream/freshness.ts';
import type { Repository } from '../upstream/repository.ts';
import { isTimeout, withDeadline } from '../waiting/deadline.ts';
import { SingleFlight } from '../waiting/single-flight.ts';
import type { Completeness } from './completeness.ts';
import type { Waiting } from './content.ts';
import type { KeptManifests } from './kept-manifests.ts';
import { LentTags } from './lent-tags.ts';
import type { ManifestsByDigest } from './manifests-by-digest.ts';
import type { MirrorParts } from './parts.ts';
import { type ResolvedTag, resolvedBy, TagInquiry } from './tag-inquiry.ts';

export interface TagsOptions
  extends Pick<
    MirrorParts,
    'catalog' | 'coordinator' | 'questions' | 'gone' | 'offline' | 'now' | 'changes' | 'report'
  > {
  readonly kept: KeptManifests;
  readonly completeness: Completeness;
  readonly manifests: ManifestsByDigest;
}

interface Question {
  readonly accept: readonly string[];
  readonly record: TagRecord | undefined;
  readonly verdict: FreshnessVerdict | undefined;
  readonly isWanted: boolean;
}

/** `isWanted`: whether the client asks for the manifest that the tag stands for, too. */
type Wish = { readonly waiting: Waiting; readonly isWanted?: boolean };

/** Resolves tags, and asks the upstream no more often than their times say. */
export class Tags implements AsyncDisposable {
  readonly #options: TagsOptions;
  readonly #flights = new SingleFlight<ResolvedTag>();
  /** Revalidations in the background, by tag: one at a time, to its very end. */
  readonly #revalidations = new Map<string, Promise<void>>();
  readonly #stop = new AbortController();
  readonly #accepts = new AcceptReader();
  readonly #shared: SharedTags;
  readonly #inquiry: TagInquiry;
  readonly #lent: LentTags;
  readonly #negative: NegativeAnswers;

  constructor(options: TagsOptions) {
    this.#options = options;
    this.#inquiry = new TagInquiry(options);
    this.#lent = new LentTags(options);
    this.#negative = options.manifests.content.negative;
    this.#shared = new SharedTags(options);
  }

  /**
   * The digest that a tag stands for, for a client with these media types.
   * @throws RegistryError MANIFEST_UNKNOWN, DENIED, TOOMANYREQUESTS, UNAVAILABLE; the signal's reason
   */
  async resolve(
    repository: Repository,
    tag: string,
    { accept, ...wish }: Wish & { readonly accept: string },
  ): Promise<ResolvedTag> {
    const { catalog } = this.#options;
    const standard: TagKey = { repository: repository.key, tag, variant: '' };
    const record = catalog.tags.get(standard);
    const variant = this.#accepts.variant(accept);
    if (record === undefined || variant.length === 0 || this.#accepts.takes(record.contentType, accept)) {
      try {
        const resolved = await this.#resolveVariant(repository, standard, manifestAccept, wish);
        if (variant.length === 0 || this.#accepts.takes(resolved.record.contentType, accept)) return resolved;
      } catch (error) {
        // The upstream may have it in a form that only this client asks for.
        const own = hasReason(error, 'not-found', 'bad-status') ? this.#accepts.beyond(accept, manifestAccept) : [];
        if (own.length === 0) throw error;
        return await this.#resolveVariant(repository, { ...standard, variant: own.join(',') }, own, wish);
      }
    }
    // The manifest of the tag is of a type that this client does not accept: the upstream may have another one for it.
    return await this.#resolveVariant(repository, { ...standard, variant: variant.join(',') }, variant, wish);
  }

  /**
   * The digest that a tag stands for now, by a GET of the tag: its last digest cannot be had.
   * @throws RegistryError as {@link resolve}
   */
  async resolveAgain(repository: Repository, key: TagKey, waiting: Waiting): Promise<ResolvedTag> {
    const { catalog } = this.#options;
    const { answerMs } = repository.upstream;
    const accept = key.variant === '' ? manifestAccept : key.variant.split(',');
    const ask = (signal: AbortSignal) => this.#inquiry.get(repository, { tag: key.tag, accept, signal });
    return await this.#noting(repository, key, () =>
      this.#flights.run(
        `${repository.key} ${whatOf(key)} again`,
        async () => {
          const { record } = await withDeadline(ask, { answerMs, signal: this.#stop.signal });
          catalog.tags.record(key, record);
          return { key, record, outcome: 'miss' };
        },
        waiting,
      ),
    );
  }

  /** The record of a tag, if it is known, fresh, and of a type that this client accepts. */
  fresh(repository: Repository, tag: string, accept: string): TagRecord | undefined {
    const { catalog, offline, now } = this.#options;
    const key: TagKey = { repository: repository.key, tag, variant: '' };
    const record = catalog.tags.get(key);
    if (
      record === undefined ||
      !this.#shared.isTrusted(key, record) ||
      !this.#accepts.takes(record.contentType, accept)
    )
      return undefined;
    const { times } = decide(repository.upstream.freshness, { repository: repository.name, tag });
    return freshnessOf(record, { now: now(), times, offline }).kind === 'fresh' ? record : undefined;
  }

  /** The manifest of a resolved tag is stored: from now on the tag stands for it for all clients. */
  adopt({ key, record }: ResolvedTag): void {
    const { catalog, now } = this.#options;
    const known = catalog.tags.get(key);
    // A time of confirmation in the future comes from a clock that was ahead: that record is the older one.
    const isOlder = known === undefined || known.checkedAtMs < record.checkedAtMs || known.checkedAtMs > now();
    if (isOlder) catalog.tags.record(key, record);
  }

  /** Ends revalidations in the background. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new RegistryError('shutting-down', 'this mirror is shutting down'));
    this.#shared[Symbol.dispose]();
    await Promise.all(this.#revalidations.values());
  }

  async #resolveVariant(
    repository: Repository,
    key: TagKey,
    accept: readonly string[],
    { waiting, isWanted = false }: Wish,
  ): Promise<ResolvedTag> {
    const { catalog, offline, now, report } = this.#options;
    const record = catalog.tags.get(key);
    const { times } = decide(repository.upstream.freshness, { repository: repository.name, tag: key.tag });
    const verdict = record && this.#shared.judge(key, record, freshnessOf(record, { now: now(), times, offline }));
    if (record && verdict?.kind === 'fresh') return { key, record, outcome: 'hit' };
    if (offline) {
      const name = `${repository.key}:${key.tag}`;
      const other = catalog.tags.get({ ...key, variant: '' });
      const state = other
        ? `has ${name} only as ${other.contentType}, which this client does not accept`
        : `has not stored ${name}`;
      throw new RegistryError('offline', `this mirror is offline and ${state}`);
    }
    const known = this.#negative.get(repository, whatOf(key));
    if (known) throw known;
    const question: Question = { accept, record, verdict, isWanted };
    if (record && verdict?.kind === 'revalidating') {
      this.#revalidate(repository, key, question);
      return { key, record, outcome: 'revalidating' };
    }
    try {
      const resolved = await this.#ask(repository, key, { ...question, waiting });
      if (!record || verdict?.kind !== 'stale') return resolved;
      await this.#inquiry.spare(repository, record, resolved.record.digest);
      return { ...resolved, previous: { record, ageSeconds: verdict.ageSeconds } };
    } catch (thrown) {
      // The client's own time is over, and a stale tag is better than an error.
      const error = isTimeout(thrown) ? new RegistryError('timeout', 'the upstream did not answer in time') : thrown;
      if (!isTransient(error)) throw thrown;
      if (!record || verdict?.kind !== 'stale') {
        const lent = await this.#lent.resolve(repository, key, { waiting, error });
        if (lent === undefined) throw thrown;
        return lent;
      }
      // Blobs are not counted as pulls: while only pulls are spared, an image can still be completed.
      const mayLack = hasReason(error, 'pull-spared') || waiting.canFallBack === true;
      if (!mayLack && !(await this.#options.completeness.isWhole(key.repository, record))) {
        throw thrown;
      }
      report({ kind: 'stale-served', upstream: repository.upstream.name });
      return { key, record, outcome: 'stale', stale: stalenessOf(repository.upstream.name, verdict.ageSeconds, error) };
    }
  }

  /** Asks the upstream, once for all clients that wait. */
  async #ask(repository: Repository, key: TagKey, { waiting, ...question }: Question & { waiting: Waiting }) {
    const { answerMs } = repository.upstream;
    return await this.#noting(repository, key, () =>
      this.#flights.run(
        `${repository.key} ${whatOf(key)}`,
        () =>
          withDeadline((signal) => this.#agree(repository, key, { ...question, signal }), {
            answerMs,
            signal: this.#stop.signal,
          }),
        waiting,
      ),
    );
  }

  /** Remembers for a while that there is no such tag, and forgets its last digest. */
  async #noting<Value>(repository: Repository, key: TagKey, work: () => Promise<Value>): Promise<Value> {
    const { catalog } = this.#options;
    try {
      return await work();
    } catch (error) {
      this.#negative.note(repository, whatOf(key), error);
      if (isNotFound(error) && catalog.tags.get(key)) catalog.tags.forget(key);
      throw error;
    }
  }

  /** Asks the upstream in the background, while the answer is sent, and fetches a manifest that is new. */
  #revalidate(repository: Repository, key: TagKey, question: Question): void {
    const { report, manifests } = this.#options;
    const what = `${repository.key} ${whatOf(key)}`;
    if (this.#revalidations.has(what)) return;
    const waiting: Waiting = { signal: this.#stop.signal };
    const work = async (): Promise<void> => {
      try {
        const resolved = await this.#ask(repository, key, { ...question, waiting });
        if (resolved.record.digest === question.record?.digest || repository.upstream.isSparing) return;
        await manifests.get(repository, resolved.record.digest, { waiting, isConfirmed: true });
        this.adopt(resolved);
      } catch (error) {
        if (this.#stop.signal.aborted) return;
        report({ kind: 'revalidation-failed', repository: repository.key, tag: key.tag, error });
      }
    };
    this.#revalidations.set(
      what,
      work().finally(() => this.#revalidations.delete(what)),
    );
  }

  /** Resolves a tag by the upstream's answer to another replica, if there is one; else asks the upstream, for all replicas. */
  async #agree(
    repository: Repository,
    key: TagKey,
    question: Question & { signal: AbortSignal },
  ): Promise<ResolvedTag> {
    const { record } = question;
    const { times } = decide(repository.upstream.freshness, { repository: repository.name, tag: key.tag });
    using turn = await this.#shared.claim(key, {
      upstream: repository.upstream,
      record,
      times,
      signal: question.signal,
    });
    if (turn.known) {
      const { known } = turn;
      await this.#note(key, { checked: known, record });
      return { key, record: known, outcome: record?.digest === known.digest ? 'revalidated' : 'miss' };
    }
    try {
      const { accept, verdict, signal } = question;
      const staleDigest = verdict?.kind === 'stale' ? record?.digest : undefined;
      const mayGet = question.isWanted && record === undefined;
      const told = await this.#inquiry.ask(repository, { tag: key.tag, accept, staleDigest, mayGet, signal });
      const checked: TagRecord = { ...told.record, access: turn.access };
      await this.#note(key, { checked, record });
      turn.tell(checked, { times, previous: record });
      return resolvedBy({ repository, key, record, checked, age: told.age });
    } catch (error) {
      turn.tellMissing(error, repository.upstream.freshness.negativeTtlMs);
      throw error;
    }
  }

  /** Replaces the record of a tag only when the new manifest is stored, or there was no record. */
  async #note(key: TagKey, { checked, record }: { checked: TagRecord; record: TagRecord | undefined }): Promise<void> {
    const { catalog, kept } = this.#options;
    if (record === undefined || record.digest === checked.digest || (await kept.get(checked.digest))) {
      catalog.tags.record(key, checked);
    }
  }
}

function whatOf(key: TagKey): string {
  return `${key.tag} ${key.variant}`;
}
