import type { Digest } from '../oci/digest.ts';
import type { FillEvent } from './fill/fill-events.ts';

/** The events of a mirror, for the log and the metrics. */
export type MirrorEvent =
  | FillEvent
  /** A manifest has come from an upstream. */
  | { readonly kind: 'manifest-received'; readonly upstream: string; readonly bytes: number }
  /** A tag was served past its time. */
  | { readonly kind: 'stale-served'; readonly upstream: string }
  /**
   * A tag that was served at once could not be confirmed in the background. `repository`: as the cache names it.
   */
  | { readonly kind: 'revalidation-failed'; readonly repository: string; readonly tag: string; readonly error: unknown }
  /** A stored blob had been altered by something else, and has been set aside. */
  | { readonly kind: 'altered'; readonly digest: Digest };
