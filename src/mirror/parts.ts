import type { Coordinator } from '../coordination/coordinator.ts';
import type { Changes } from '../oci/facts.ts';
import type { Report } from '../oci/report.ts';
import type { ReplicaQuestions } from '../replicas/questions.ts';
import type { Replicas } from '../replicas/replicas.ts';
import type { Catalog } from '../store/catalog/catalog.ts';
import type { BlobStore } from '../store/files/blob-store.ts';
import type { GoneParts } from './gone-parts.ts';
import type { MirrorEvent } from './mirror-event.ts';

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
