import type { Digest } from '../oci/digest.ts';
import { hasReason, isTransient, RegistryError } from '../oci/error.ts';
import type { ErrorCode } from '../oci/reason.ts';
import { NegativeAnswers } from '../replicas/negative-answers.ts';
import type { LentRight } from '../replicas/question.ts';
import { accessTo } from '../replicas/replicas.ts';
import type { Repository } from '../upstream/repository.ts';
import { withDeadline } from '../waiting/deadline.ts';
import { SingleFlight } from '../waiting/single-flight.ts';
import type { MirrorParts } from './parts.ts';

/** How a request waits; read only where there is something to wait for. */
export interface Waiting {
  readonly signal: AbortSignal;
  /** Whether only a part of a blob is asked for. */
  readonly isRanged?: boolean;
  /** Whether the client asks the registry itself for each part that it does not get here. */
  readonly canFallBack?: boolean;
}

/** How an upstream is asked about one kind of content. */
export interface Inquiry<Head> {
  /** Whether a repository has a digest, and what the upstream tells about it. @throws RegistryError; the signal's reason */
  ask(repository: Repository, digest: Digest, signal: AbortSignal): Promise<Head>;
  /**
   * Compares what is stored under a digest with what the upstream gives for it.
   * @returns whether it is the same; `undefined` where that cannot be told without fetching all of it
   * @throws RegistryError; the signal's reason
   */
  compare(repository: Repository, digest: Digest, signal: AbortSignal): Promise<boolean | undefined>;
  /** The answer that {@link ask} would give, from another replica's word. */
  vouched(right: LentRight): Head;
}

export interface ContentOptions<Head>
  extends Pick<MirrorParts, 'catalog' | 'coordinator' | 'questions' | 'offline' | 'now' | 'gone'> {
  readonly kind: 'blob' | 'manifest';
  readonly inquiry: Inquiry<Head>;
  /** Notes that the upstream has confirmed a digest in a repository. @param repository as the cache names it */
  readonly grant: (repository: string, digest: Digest) => void | Promise<void>;
}

const offlineCodes = { blob: 'BLOB_UNKNOWN', manifest: 'MANIFEST_UNKNOWN' } as const satisfies Record<
  string,
  ErrorCode
>;

/**
 * The way to content of one kind by its digest: who may read it, what the upstream is asked about it, once for all who want
 * to know, and what it said a moment ago that it does not have.
 */
export class Content<Head> {
  /** The recent "not found" answers of upstreams. */
  readonly negative: NegativeAnswers;
  readonly #options: ContentOptions<Head>;
  readonly #questions = new SingleFlight<Head>();
  readonly #comparisons = new SingleFlight<boolean>();

  constructor(options: ContentOptions<Head>) {
    this.#options = options;
    this.negative = new NegativeAnswers(options);
  }

  /**
   * Makes sure that a repository may read a digest, by asking its upstream where that is not known. Bytes that came from
   * another upstream are readable only after this one has shown that it has them.
   * @returns false: it can be shown only by fetching the digest through the repository, as if it were not stored
   * @throws RegistryError; the signal's reason
   */
  async requireRight(repository: Repository, digest: Digest, waiting: Waiting): Promise<boolean> {
    const { catalog } = this.#options;
    const { key, upstream } = repository;
    if (catalog.grants.isReadable(key, digest)) return true;
    if (catalog.blobs.get(digest) !== undefined && !catalog.blobs.isShown(digest, upstream.name)) {
      return await this.requireShown(repository, digest, waiting);
    }
    await this.confirm(repository, digest, waiting);
    return true;
  }

  /**
   * Makes sure that the upstream has a digest in a repository, and remembers it: by the word of a replica that has the
   * content and asks the upstream in the same way, else by asking the upstream, else, if it cannot answer, by the word of
   * any such replica.
   * @throws RegistryError; the signal's reason
   */
  async confirm(repository: Repository, digest: Digest, waiting: Waiting): Promise<Head> {
    this.refuseOffline(repository, digest);
    const { inquiry, grant } = this.#options;
    const { signal } = waiting;
    const right = await this.#vouch(repository, digest, { signal, amongHolders: true });
    if (right) return inquiry.vouched(right);
    try {
      const access = await this.#access(repository);
      const head = await this.ask(repository, digest, waiting);
      await grant(repository.key, digest);
      await this.noteConfirmed(repository, digest, access);
      return head;
    } catch (error) {
      const lent = isTransient(error) && (await this.#vouch(repository, digest, { signal, amongHolders: false }));
      if (!lent) throw error;
      return inquiry.vouched(lent);
    }
  }

  /**
   * Whether another replica that asks the upstream in the same way says that it has confirmed a digest in a repository;
   * remembers it then.
   * @param options `amongHolders`: only those that have the content are asked
   */
  async isVouched(
    repository: Repository,
    digest: Digest,
    options: { readonly amongHolders: boolean; readonly signal: AbortSignal },
  ): Promise<boolean> {
    return (await this.#vouch(repository, digest, options)) !== undefined;
  }

  /**
   * Remembers how the upstream was asked when it confirmed a digest in a repository, for other replicas.
   * @param before how it was asked as the question began; it counts only if it is still asked so
   */
  async noteConfirmed(repository: Repository, digest: Digest, before?: string): Promise<void> {
    const access = await this.#access(repository);
    if (access === undefined || (before !== undefined && before !== access)) return;
    this.#options.catalog.confirmations.note(repository.key, digest, access);
  }

  /** As {@link confirm}, without remembering a yes. */
  async ask(repository: Repository, digest: Digest, waiting: Waiting): Promise<Head> {
    return await this.#once(this.#questions, { repository, digest, waiting }, (signal) =>
      this.#options.inquiry.ask(repository, digest, signal),
    );
  }

  /**
   * Makes sure that the upstream of a repository has shown that it has the bytes that are stored under a digest, through
   * this very repository.
   * @returns false where all of it would have to be fetched
   * @throws RegistryError; the signal's reason
   */
  async requireShown(repository: Repository, digest: Digest, waiting: Waiting): Promise<boolean> {
    const { catalog, inquiry, grant } = this.#options;
    try {
      const isShown = await this.#once(this.#comparisons, { repository, digest, waiting }, async (signal) => {
        const isSame = await inquiry.compare(repository, digest, signal);
        if (isSame === undefined) return false;
        if (!isSame) throw otherBytes(repository, digest);
        catalog.blobs.noteShown(digest, repository.upstream.name);
        return true;
      });
      if (isShown) await grant(repository.key, digest);
      return isShown;
    } catch (error) {
      if (!isTransient(error)) throw error;
      const lent = await this.#vouch(repository, digest, { signal: waiting.signal, amongHolders: false });
      if (lent?.isShown !== true) throw error;
      return true;
    }
  }

  /**
   * Brings a digest here that is not, unless it is known that the upstream does not have it.
   * @param how what the upstream is asked with, where that differs from one client to another: a no counts only for it
   * @throws RegistryError; what the work throws
   */
  async fetch<Value>(
    repository: Repository,
    digest: Digest,
    { how = '', work }: { how?: string; work: () => Promise<Value> },
  ): Promise<Value> {
    this.refuseOffline(repository, digest);
    const what = how === '' ? digest : `${digest} ${how}`;
    const known = await this.negative.lookUp(repository, what);
    if (known) throw known;
    return await this.#noting(repository, { what, digest }, work);
  }

  /** @throws RegistryError where no upstream may be asked */
  refuseOffline(repository: Repository, digest: Digest): void {
    const { offline, kind } = this.#options;
    if (!offline) return;
    const what = kind === 'blob' ? `this blob for ${repository.key}` : `${repository.key}@${digest}`;
    throw new RegistryError('offline', `this mirror is offline and has not stored ${what}`, {
      code: offlineCodes[kind],
    });
  }

  async #vouch(
    repository: Repository,
    digest: Digest,
    options: { readonly amongHolders: boolean; readonly signal: AbortSignal },
  ): Promise<LentRight | undefined> {
    const { catalog, coordinator, offline, questions, grant } = this.#options;
    // What the upstream has just said to this replica counts for more.
    if (offline || coordinator.isAlone || this.negative.get(repository, digest)) return undefined;
    const right = await questions.right(repository, digest, options);
    if (right === undefined) return undefined;
    if (right.isShown) catalog.blobs.noteShown(digest, repository.upstream.name);
    await grant(repository.key, digest);
    catalog.confirmations.note(repository.key, digest, right.access);
    return right;
  }

  async #access({ upstream }: Repository): Promise<string | undefined> {
    return await accessTo(upstream, this.#options.coordinator);
  }

  async #once<Value>(
    flights: SingleFlight<Value>,
    { repository, digest, waiting }: { repository: Repository; digest: Digest; waiting: Waiting },
    work: (signal: AbortSignal) => Promise<Value>,
  ): Promise<Value> {
    this.refuseOffline(repository, digest);
    const known = this.negative.get(repository, digest);
    if (known) throw known;
    const { answerMs } = repository.upstream;
    return await this.#noting(repository, { what: digest, digest }, () =>
      flights.run(`${repository.key} ${digest}`, () => withDeadline(work, { answerMs }), waiting),
    );
  }

  async #noting<Value>(
    repository: Repository,
    { what, digest }: { readonly what: string; readonly digest: Digest },
    work: () => Promise<Value>,
  ): Promise<Value> {
    try {
      return await work();
    } catch (error) {
      this.negative.note(repository, what, error);
      // Of another mirror's memory, or of this one's, it is no less true.
      if (hasReason(error, 'not-found')) this.#options.gone.note(repository, digest);
      throw error;
    }
  }
}

function otherBytes({ upstream }: Repository, digest: Digest): RegistryError {
  return new RegistryError('wrong-bytes', `upstream ${upstream.name} gives other bytes than those of ${digest}`);
}
