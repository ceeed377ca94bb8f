import type { Digest } from '../../oci/digest.ts';

/** A decision about images that are held for a scanner. */
export interface DecisionParameters {
  readonly images: readonly string[];
  readonly verdict: 'approved' | 'rejected';
  /** Shown to clients that pull a rejected image. */
  readonly reason?: string | undefined;
}

/** The decision about one image. */
export interface DecisionEvent {
  readonly name: string;
  readonly repository: string;
  readonly digest: Digest;
  readonly verdict: 'approved' | 'rejected';
  /** It and all that its index lists. */
  readonly manifests: number;
}

/** A manifest that waits, or has been rejected. */
export interface HeldEvent {
  readonly repository: string;
  readonly digest: Digest;
  readonly state: 'held' | 'rejected';
  /** ISO 8601. */
  readonly heldAt: string;
  readonly reason: string | null;
}
