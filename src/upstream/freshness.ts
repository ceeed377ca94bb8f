import type { TagRecord } from '../store/catalog/tag-records.ts';
import type { TagTimes } from './upstream.ts';

/** What may be done with a record of a tag. */
export type FreshnessVerdict =
  /** Served without asking the upstream. */
  | { readonly kind: 'fresh' }
  /** Served at once; the upstream is asked in the background (RFC 5861, 3). */
  | { readonly kind: 'revalidating' }
  /** To be revalidated; served as it is if the upstream cannot answer (RFC 5861, 4). */
  | { readonly kind: 'stale'; readonly ageSeconds: number }
  /** To be revalidated, and too old to be served instead of an answer. */
  | { readonly kind: 'expired' };

/** Judges a record by its age. Offline, nothing is too old, because no upstream can be asked. */
export function freshnessOf(
  record: TagRecord,
  { now, times, offline }: { now: number; times: TagTimes; offline: boolean },
): FreshnessVerdict {
  const { tagTtlMs, staleWhileRevalidateMs = 0, staleIfErrorMs } = times;
  const ageMs = now - record.checkedAtMs;
  if (offline) return { kind: 'fresh' };
  // After the clock went back, a record may be from the future: it is revalidated, not trusted for ever.
  if (ageMs < 0) return { kind: 'stale', ageSeconds: 0 };
  if (ageMs < tagTtlMs) return { kind: 'fresh' };
  if (ageMs < tagTtlMs + staleWhileRevalidateMs) return { kind: 'revalidating' };
  if (ageMs >= tagTtlMs + staleIfErrorMs) return { kind: 'expired' };
  return { kind: 'stale', ageSeconds: Math.floor(ageMs / 1000) };
}

/** When the upstream last confirmed a stale tag, and the warning for the client. */
export interface Staleness {
  readonly ageSeconds: number;
  readonly warning: string;
}

/** What a client learns about a tag that is served past its time. */
export function stalenessOf(upstream: string, ageSeconds: number, error: unknown): Staleness {
  return { ageSeconds, warning: staleWarning(upstream, error) };
}

/** The text of a `Warning: 299` (distribution-spec, "Warnings"): plain ASCII without quotes or backslashes. */
function staleWarning(upstream: string, error: unknown): string {
  const reason = error instanceof Error ? error.message : 'no answer';
  const text = `served from the cache, ${upstream} could not confirm it: ${reason}`;
  return text
    .replaceAll(/["\\]/g, "'")
    .replaceAll(/[^\x20-\x7e]/g, '?')
    .slice(0, 250);
}
