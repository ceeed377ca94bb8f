import { LRUCache } from 'lru-cache';
import type { Coordinator, SharedTag, SharedTagKey } from '../coordination/coordinator.ts';
import type { Digest } from '../oci/digest.ts';
import { isNotFound, RegistryError } from '../oci/error.ts';
import { type Changes, tagFact } from '../oci/facts.ts';
import { upTo } from '../oci/lru-bound.ts';
import type { ErrorCode } from '../oci/reason.ts';
import type { TagKey, TagRecord } from '../store/catalog/tag-records.ts';
import type { FreshnessVerdict } from '../upstream/freshness.ts';
import type { TagTimes, Upstream } from '../upstream/upstream.ts';
import { accessTo } from './replicas.ts';

export interface SharedTagsOptions {
  readonly coordinator: Coordinator;
  /** No upstream can be asked: what is recorded here is all there is. */
  readonly offline: boolean;
  /** Wall clock in milliseconds. */
  readonly now: () => number;
  /** Receives each tag that another replica knows to have moved; absent: no answers are kept. */
  readonly changes?: Changes | undefined;
  /** Says whether a tag cannot stand for its digest any more, although this replica or another one confirmed it. */
  readonly gone?: { isDoubtful(repository: string, record: TagRecord): boolean };
}

/** One replica's turn to ask what a tag is; disposing lets the next one ask. The others learn of it in the background. */
export interface TagTurn extends Disposable {
  /** The answer that another replica has got; `undefined`: ask the upstream. */
  readonly known: TagRecord | undefined;
  /** How the upstream is asked, for a record of what it says; `undefined`: nothing is shared. */
  readonly access: string | undefined;
  /** Tells the others, unless it is asked in another way by now. */
  tell(record: TagRecord, options: { times: TagTimes; previous: TagRecord | undefined }): void;
  /** Tells the others, where the error says that there is no such tag. */
  tellMissing(error: unknown, forMs: number): void;
}

/** Tags, shared with other replicas: one asks the upstream for all of them. */
export class SharedTags implements Disposable {
  readonly #options: SharedTagsOptions;
  readonly #subscription: Disposable;
  /** Tags that mean something else now, by what another replica has said, and when it did. */
  readonly #moved = new LRUCache<string, { readonly digest: Digest; readonly atMs: number }>(upTo(20_000));
  /** When what is recorded here was last compared with what the others know. */
  readonly #comparedAtMs = new LRUCache<string, number>(upTo(20_000));
  /** Whatever was known before this may have changed without our being told. */
  #missedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: SharedTagsOptions) {
    this.#options = options;
    const { coordinator, now, changes } = options;
    this.#subscription = coordinator.subscribe({
      received: (message) => {
        if (message.kind !== 'tag') return;
        this.#moved.set(nameOf(message), { digest: message.digest, atMs: now() });
        changes?.changed(tagFact(message.repository, message.tag));
      },
      missed: () => {
        this.#missedAtMs = now();
        changes?.changedAll();
      },
    });
  }

  /** Whether a record can still be what the others know. */
  isTrusted(key: TagKey, record: TagRecord): boolean {
    const { offline, gone } = this.#options;
    if (offline) return true;
    if (gone?.isDoubtful(key.repository, record) === true) return false;
    if (this.#moved.size === 0 && this.#missedAtMs === Number.NEGATIVE_INFINITY) return true;
    const moved = this.#moved.get(nameOf(key));
    const checkedAtMs = Math.max(record.checkedAtMs, this.#comparedAtMs.get(nameOf(key)) ?? 0);
    if (checkedAtMs <= this.#missedAtMs) return false;
    return moved === undefined || moved.digest === record.digest || checkedAtMs > moved.atMs;
  }

  /** A verdict, with what the others have said taken into account. */
  judge(key: TagKey, record: TagRecord, verdict: FreshnessVerdict): FreshnessVerdict {
    const isUsable = verdict.kind === 'fresh' || verdict.kind === 'revalidating';
    return isUsable && !this.isTrusted(key, record) ? { kind: 'stale', ageSeconds: 0 } : verdict;
  }

  /**
   * Takes what replicas that reach the upstream in the same way know, or the right to ask it. With the same URLs and
   * credentials the upstream would say the same to this one; what others may read with other credentials, or this one
   * with those that it had before, does not count.
   * @throws RegistryError the 404 that another replica was given; the signal's reason
   */
  async claim(
    key: TagKey,
    options: { upstream: Upstream; record: TagRecord | undefined; times: TagTimes; signal: AbortSignal },
  ): Promise<TagTurn> {
    const { upstream, record, times, signal } = options;
    const { coordinator, now } = this.#options;
    const access = await accessTo(upstream, coordinator);
    if (access === undefined || times.tagTtlMs === 0) return this.#turn(key, { upstream, access, isOurs: false });
    // An answer older than the one known here is no news, if that was given to the same question.
    const knownForMs = record?.access === access ? now() - record.checkedAtMs : times.tagTtlMs;
    const maxAgeMs = Math.max(1, Math.min(times.tagTtlMs, knownForMs));
    const claim = await coordinator.claimTag({ ...key, access }, { maxAgeMs, signal });
    if (claim.kind !== 'known') return this.#turn(key, { upstream, access, isOurs: true });
    const { tag } = claim;
    if (tag.kind === 'missing')
      throw new RegistryError('not-found', tag.answer.message, { code: tag.answer.code as ErrorCode });
    const { digest, contentType, size } = tag;
    this.#comparedAtMs.set(nameOf(key), now() + 1);
    const known: TagRecord = { digest, contentType, size, checkedAtMs: now() - tag.ageMs, access };
    return this.#turn(key, { upstream, access, isOurs: false, known });
  }

  [Symbol.dispose](): void {
    this.#subscription[Symbol.dispose]();
  }

  #turn(
    key: TagKey,
    options: { upstream: Upstream; access: string | undefined; isOurs: boolean; known?: TagRecord },
  ): TagTurn {
    const { upstream, access = '', isOurs, known } = options;
    const { coordinator, now } = this.#options;
    const shared: SharedTagKey = { ...key, access };
    let isOver = !isOurs;
    const record = async (tag: SharedTag, forMs: number): Promise<void> => {
      if (isOver) return;
      isOver = true;
      const isStill = (await accessTo(upstream, coordinator)) === access;
      await (isStill ? coordinator.recordTag(shared, tag, { forMs }) : coordinator.leaveTag(shared));
    };
    const tell = async (
      { digest, contentType, size, checkedAtMs }: TagRecord,
      { times, previous }: { times: TagTimes; previous: TagRecord | undefined },
    ): Promise<void> => {
      const ageMs = Math.max(0, now() - checkedAtMs);
      await record({ kind: 'manifest', digest, contentType, size, ageMs }, times.tagTtlMs);
      if (previous === undefined || previous.digest === digest || !isOurs) return;
      await coordinator.announce({ kind: 'tag', ...key, digest });
    };
    return {
      known,
      access: options.access,
      tell: (answer, more) => void tell(answer, more),
      tellMissing(error, forMs) {
        if (forMs === 0 || !isNotFound(error)) return;
        const { code, message } = error;
        void record({ kind: 'missing', answer: { code, message }, ageMs: 0 }, forMs);
      },
      [Symbol.dispose]() {
        if (isOver) return;
        isOver = true;
        void coordinator.leaveTag(shared);
      },
    };
  }
}

function nameOf({ repository, tag, variant }: TagKey): string {
  return `${repository}:${tag} ${variant}`;
}
