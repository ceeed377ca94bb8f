import type { Coordinator } from '../coordination/coordinator.ts';
import type { Digest } from '../oci/digest.ts';
import type { Changes } from '../oci/facts.ts';
import type { Report } from '../oci/report.ts';
import type { ReplicaQuestions } from '../replicas/questions.ts';
import type { Replicas } from '../replicas/replicas.ts';
import type { Catalog } from '../store/catalog/catalog.ts';
import type { BlobStore } from '../store/files/blob-store.ts';
import type { FillEvent } from './fill/fill-events.ts';
import type { GoneParts } from './gone-parts.ts';

/** The dependencies that the parts of a mirror share; each picks those that it uses. */
export interface MirrorParts {
  readonly store: BlobStore;
  readonly catalog: Catalog;
  readonly replicas: Replicas;
  readonly coordinator: Coordinator;
  /** Asks other replicas for the answers that upstreams have given them. */
  readonly questions: ReplicaQuestions;
  /** Remembers parts that upstreams no longer have. */
  readonly gone: GoneParts;
  /** No upstream is ever contacted. */
  readonly offline: boolean;
  /** Receives events for the log and the metrics. */
  readonly report: Report<MirrorEvent>;
  /** Receives each fact that changes here; absent: nothing is kept that rests on facts. */
  readonly changes?: Changes | undefined;
  /** Wall clock in milliseconds. */
  readonly now: () => number;
}

/** The events of a mirror, for the log and the metrics. */
export type MirrorEvent =
  | FillEvent
  /** A manifest has come from an upstream. */
  | { readonly kind: 'manifest-received'; readonly upstream: string; readonly bytes: number }
  /** A tag was served past its time. */
  | { readonly kind: 'stale-served'; readonly upstream: string }
  /** A tag that was served at once could not be confirmed in the background. `repository`: as the cache names it. */
  | { readonly kind: 'revalidation-failed'; readonly repository: string; readonly tag: string; readonly error: unknown }
  /** A stored blob had been altered by something else, and has been set aside. */
  | { readonly kind: 'altered'; readonly digest: Digest };
