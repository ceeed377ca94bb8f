import type { Digest } from '../../oci/digest.ts';
import type { DiskFault } from '../../store/files/blob-store.ts';
import type { TransferObserver } from './transfer.ts';

/** How a fill ended: stored; verified but not stored, because the disk failed or others keep it; or failed. */
export type FillResult = 'stored' | 'unstored' | 'passed' | 'failed';

/** Receives events of fills, for the log and the metrics. */
export interface FillObserver extends TransferObserver {
  started(digest: Digest): void;
  wrongBytes(digest: Digest, event: { sources: string[]; actual: Digest }): void;
  diskFault(error: DiskFault): void;
  ended(digest: Digest, result: FillResult): void;
}

/** The state of a fill. */
export type FillState =
  | 'running'
  /** Every byte is on disk and the digest is right: readers may have all of it. */
  | 'verified'
  /** The disk has failed: written bytes may be read, the rest comes from the sources. */
  | 'spilled'
  | 'failed';
