import type { Slabs } from '../../memory/slabs.ts';
import type { Digest } from '../../oci/digest.ts';
import type { Report } from '../../oci/report.ts';
import type { BlobRecord } from '../../store/catalog/blob-records.ts';
import type { BlobStore } from '../../store/files/blob-store.ts';
import type { FillEvent } from './fill-events.ts';
import type { Route, SourceList } from './sources.ts';

/** The parts of a fill. */
export interface FillOptions {
  readonly digest: Digest;
  readonly store: BlobStore;
  readonly sources: SourceList;
  readonly route: Route;
  readonly slabs: Slabs;
  readonly report: Report<FillEvent>;
  /** Whether it is begun for a part of the blob: then it is asked for in parts. */
  readonly inParts: boolean;
  /** Called when the blob has become visible in the store. */
  readonly onStored: (blob: BlobRecord) => void;
  /** Whether the partial file of an earlier run can only have come from the upstream of this fill. */
  readonly isLeftoverOurs: () => boolean;
  /** Called when the last reader has left. */
  readonly onUnwanted: () => void;
}
