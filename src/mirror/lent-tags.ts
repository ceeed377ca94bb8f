import { RegistryError } from '../oci/error.ts';
import type { TagKey, TagRecord } from '../store/catalog/tag-records.ts';
import { decide, freshnessOf, stalenessOf } from '../upstream/freshness.ts';
import type { Repository } from '../upstream/repository.ts';
import type { Waiting } from './content.ts';
import type { ManifestsByDigest } from './manifests-by-digest.ts';
import type { MirrorParts } from './parts.ts';
import type { ResolvedTag } from './tag-inquiry.ts';

export interface LentTagsOptions extends Pick<MirrorParts, 'catalog' | 'questions' | 'now' | 'report'> {
  readonly manifests: ManifestsByDigest;
}

/** Tags of which nothing usable is known here, by the word of other replicas while the upstream cannot answer. */
export class LentTags {
  readonly #options: LentTagsOptions;

  constructor(options: LentTagsOptions) {
    this.#options = options;
  }

  /**
   * What a tag stands for, as the upstream last confirmed it to a replica that asks it in the same way. The manifest is
   * here afterwards, and the tag recorded.
   * @param options `error`: why the upstream could not answer
   * @returns `undefined` if no replica knows it, or only one that is too old
   * @throws the signal's reason
   */
  async resolve(
    repository: Repository,
    key: TagKey,
    { waiting, error }: { readonly waiting: Waiting; readonly error: unknown },
  ): Promise<ResolvedTag | undefined> {
    const { catalog, now, report, questions, manifests } = this.#options;
    const { tag, variant } = key;
    const lent = await questions.tag(repository, { tag, variant, signal: waiting.signal });
    if (lent === undefined) return undefined;
    const { ageMs, ...told } = lent;
    const record: TagRecord = { ...told, checkedAtMs: now() - ageMs };
    const { times } = decide(repository.upstream.freshness, { repository: repository.name, tag });
    const verdict = freshnessOf(record, { now: now(), times, offline: false });
    if (verdict.kind === 'expired') return undefined;
    try {
      await manifests.get(repository, record.digest, { waiting, isConfirmed: true });
    } catch (failure) {
      if (failure instanceof RegistryError) return undefined;
      throw failure;
    }
    catalog.tags.record(key, record);
    if (verdict.kind !== 'stale') return { key, record, outcome: 'peer' };
    const { name } = repository.upstream;
    report({ kind: 'stale-served', upstream: name });
    return { key, record, outcome: 'stale', stale: stalenessOf(name, verdict.ageSeconds, error) };
  }
}
