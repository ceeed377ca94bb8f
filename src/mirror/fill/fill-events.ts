import type { Digest } from '../../oci/digest.ts';
import type { DiskFault } from '../../store/files/blob-store.ts';
import type { Source } from './sources.ts';

/** How a fill ended: stored; verified but not stored, because the disk failed or others keep it; or failed. */
export type FillResult = 'stored' | 'unstored' | 'passed' | 'failed';

/** The events of a transfer. */
export type TransferEvent =
  /** A source has sent bytes, whether they were new or not. */
  | { readonly kind: 'received'; readonly source: Source; readonly bytes: number }
  /** A source has failed at a position, and another attempt follows if any source is left. */
  | {
      readonly kind: 'source-failed';
      readonly digest: Digest;
      readonly source: Source;
      readonly error: unknown;
      readonly position: number;
    };

/** The events of a fill, for the log and the metrics. */
export type FillEvent =
  | TransferEvent
  | { readonly kind: 'fill-started'; readonly digest: Digest }
  | { readonly kind: 'wrong-bytes'; readonly digest: Digest; readonly sources: string[]; readonly actual: Digest }
  | { readonly kind: 'disk-fault'; readonly error: DiskFault }
  | { readonly kind: 'fill-ended'; readonly digest: Digest; readonly result: FillResult };

/** The state of a fill. */
export type FillState =
  | 'running'
  /** Every byte is on disk and the digest is right: readers may have all of it. */
  | 'verified'
  /** The disk has failed: written bytes may be read, the rest comes from the sources. */
  | 'spilled'
  | 'failed';
