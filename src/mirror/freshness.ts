import type { TagRecord } from '../store/catalog.ts';
import type { Freshness } from '../upstream/upstream.ts';

/** What may be done with a record of a tag. */
export type FreshnessVerdict =
  /** Served without asking. */
  | { readonly kind: 'fresh' }
  /** To be confirmed; served as it is where the upstream cannot answer. */
  | { readonly kind: 'stale'; readonly ageSeconds: number }
  /** To be confirmed, and too old to stand in for the upstream. */
  | { readonly kind: 'expired' };

/** Judges a record by its age. Offline nothing is too old, since nobody can be asked. */
export function freshnessOf(
  record: TagRecord,
  { now, freshness, offline }: { now: number; freshness: Freshness; offline: boolean },
): FreshnessVerdict {
  // A clock that went backwards makes a record from the future: it is asked about, not trusted for ever.
  const ageMs = now - record.checkedAtMs;
  if (offline || (ageMs >= 0 && ageMs < freshness.tagTtlMs)) return { kind: 'fresh' };
  if (ageMs >= freshness.tagTtlMs + freshness.staleIfErrorMs) return { kind: 'expired' };
  return { kind: 'stale', ageSeconds: Math.max(0, Math.floor(ageMs / 1000)) };
}

/** The text of a `Warning: 299` (distribution-spec, "Warnings"): plain ASCII without quotes or backslashes. */
export function staleWarning(upstream: string, error: unknown): string {
  const reason = error instanceof Error ? error.message : 'no answer';
  const text = `served from the cache, ${upstream} could not confirm it: ${reason}`;
  return text
    .replaceAll(/["\\]/g, "'")
    .replaceAll(/[^\x20-\x7e]/g, '?')
    .slice(0, 250);
}
