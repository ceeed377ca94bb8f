import type { Digest } from '../../oci/digest.ts';
import type { DiskFault } from '../../store/files/blob-store.ts';
import type { TransferObserver } from './transfer.ts';

/** How a fill ended: on disk; verified but not kept, since the disk failed, or others keep it; or not had. */
export type FillResult = 'stored' | 'unstored' | 'passed' | 'failed';

/** Told of what happens to fills, for the log and the metrics. */
export interface FillObserver extends TransferObserver {
  started(digest: Digest): void;
  wrongBytes(digest: Digest, event: { sources: string[]; actual: Digest }): void;
  diskFault(error: DiskFault): void;
  ended(digest: Digest, result: FillResult): void;
}

/** What a fill has come to. */
export type FillState =
  | 'running'
  /** Every byte is on disk and the digest is right: readers may have all of it. */
  | 'verified'
  /** The disk has failed: what is written may be read, the rest comes from the sources without it. */
  | 'spilled'
  | 'failed';
