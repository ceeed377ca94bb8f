import type { Coordinator } from '../coordination/coordinator.ts';
import type { Digest } from '../oci/digest.ts';
import { octetStream } from '../oci/media-types.ts';
import type { Catalog } from '../store/catalog/catalog.ts';
import type { RememberedLists } from '../store/catalog/remembered-lists.ts';
import type { Repository } from '../upstream/repository.ts';
import type { LentList, LentRight, LentTag, ReplicaQuestion } from './question.ts';
import { accessTo } from './replicas.ts';

export interface ReplicaAnswersOptions {
  readonly catalog: Catalog;
  readonly coordinator: Coordinator;
  readonly lists: RememberedLists;
  /** A repository by the cache's name of it, if this mirror may pull from it. */
  readonly repository: (key: string) => Repository | undefined;
  /** Whether a manifest and all that it needs can be served through a repository without its upstream. */
  readonly isWhole: (repository: string, digest: Digest) => Promise<boolean>;
  /** Wall clock in milliseconds. */
  readonly now: () => number;
}

/** A value that can be sent as JSON. */
type Answer = LentTag | LentRight | (Omit<LentList, 'answer'> & Omit<LentList['answer'], 'bytes'> & { body: string });

/**
 * Tells other replicas what upstreams have said to this one. Only a replica that asks the upstream in the same way is
 * told, and only what the upstream confirmed when this replica asked it in that way: what other credentials may read is
 * not passed on.
 */
export class ReplicaAnswers {
  readonly #options: ReplicaAnswersOptions;

  constructor(options: ReplicaAnswersOptions) {
    this.#options = options;
  }

  /** @returns `undefined` if this replica cannot tell */
  async answer(question: ReplicaQuestion): Promise<Answer | undefined> {
    const { repository: find, coordinator } = this.#options;
    const { through, access } = question;
    const repository = find(through);
    if (repository === undefined || (await accessTo(repository.upstream, coordinator)) !== access) return undefined;
    switch (question.kind) {
      case 'tag':
        return await this.#tag({ repository: through, tag: question.tag, variant: question.variant }, access);
      case 'right':
        return this.#right(repository, question.digest as Digest, access);
      case 'list':
        return this.#list(question);
      default:
        return question satisfies never;
    }
  }

  /** Only a tag whose image is whole: a pull that begins with it has to complete without the upstream. */
  async #tag(key: { repository: string; tag: string; variant: string }, access: string): Promise<LentTag | undefined> {
    const { catalog, isWhole, now } = this.#options;
    const record = catalog.tags.get(key);
    if (record?.access !== access || record.checkedAtMs === 0) return undefined;
    if (!(await isWhole(key.repository, record.digest))) return undefined;
    const { digest, contentType, size, checkedAtMs } = record;
    return { digest, contentType, size, ageMs: Math.max(0, now() - checkedAtMs) };
  }

  #right({ key, upstream }: Repository, digest: Digest, access: string): LentRight | undefined {
    const { grants, confirmations, blobs } = this.#options.catalog;
    if (!grants.mayRead(key, digest) || !confirmations.isKnown(key, digest, access)) return undefined;
    const stored = blobs.get(digest);
    return {
      size: grants.expectedSize(key, digest) ?? stored?.size,
      contentType: stored?.contentType ?? octetStream,
      isShown: blobs.isShown(digest, upstream.name),
    };
  }

  #list({ through, name, access }: ReplicaQuestion & { kind: 'list' }): Answer | undefined {
    // The name of a list begins with its repository.
    if (!name.startsWith(`${through} `)) return undefined;
    const remembered = this.#options.lists.get(name);
    if (remembered?.access !== access) return undefined;
    const { bytes, ...answer } = remembered.answer;
    return { ...answer, body: bytes.toString('utf8'), ageMs: remembered.ageMs };
  }
}
