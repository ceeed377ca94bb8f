import { RegistryError } from '../oci/error.ts';
import type { TagKey, TagRecord } from '../store/catalog/tag-records.ts';
import type { ManifestHead } from '../upstream/client.ts';
import { type Staleness, stalenessOf } from '../upstream/freshness.ts';
import type { Repository } from '../upstream/repository.ts';
import { decide } from '../upstream/tag-rules.ts';
import type { Outcome } from './outcome.ts';

/** What a tag stands for now, as far as it can be known. */
export interface ResolvedTag {
  readonly key: TagKey;
  readonly record: TagRecord;
  readonly outcome: Outcome;
  readonly stale?: Staleness | undefined;
  /** What it stood for before the upstream was asked, where that may still stand in for it. */
  readonly previous?: { readonly record: TagRecord; readonly ageSeconds: number };
}

/** When an answer was confirmed by the registry itself. @param age of an answer from the cache of another mirror */
export function confirmedAtMs(nowMs: number, age: ManifestHead['age']): number {
  return nowMs - (age?.seconds ?? 0) * 1000;
}

/** How long ago the registry confirmed what a tag stands for; offline, when that will be again is not known. */
export function ageSecondsOf(
  record: TagRecord | undefined,
  { now, offline }: { readonly now: () => number; readonly offline: boolean },
): { readonly ageSeconds?: number } {
  if (record === undefined || offline) return {};
  return { ageSeconds: Math.max(0, Math.floor((now() - record.checkedAtMs) / 1000)) };
}

/**
 * What an upstream's answer means for a tag. One that is a mirror may not have been able to confirm what it has: that is
 * no confirmation for this one either, and the time for which stale tags are served does not begin again.
 * @throws RegistryError `unconfirmed` where that time is over
 */
export function resolvedBy(answer: {
  readonly repository: Repository;
  readonly key: TagKey;
  readonly record: TagRecord | undefined;
  readonly checked: TagRecord;
  readonly age: ManifestHead['age'];
}): ResolvedTag {
  const { repository, key, record, checked, age } = answer;
  if (age?.isStale !== true) {
    return { key, record: checked, outcome: record?.digest === checked.digest ? 'revalidated' : 'miss' };
  }
  const { upstream } = repository;
  const { times } = decide(upstream.freshness, { repository: repository.name, tag: key.tag });
  const error = new RegistryError('unconfirmed', 'the mirror that it is asked through could not confirm it');
  if (age.seconds * 1000 >= times.tagTtlMs + times.staleIfErrorMs) throw error;
  return { key, record: checked, outcome: 'stale', stale: stalenessOf(upstream.name, age.seconds, error) };
}
