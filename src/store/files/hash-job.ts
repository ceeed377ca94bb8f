import type { DigestAlgorithm } from '../../oci/digest.ts';

/** What a {@link FileHasher} asks of its thread. */
export interface HashJob {
  readonly path: string;
  readonly algorithm: DigestAlgorithm;
}

/** What the thread says: `read`, as often as it likes, and then one of the others. */
export type HashAnswer =
  | { readonly kind: 'read'; readonly bytes: number }
  | {
      readonly kind: 'hashed';
      /** `undefined`: it is no file that could be read. */
      readonly hex: string | undefined;
      readonly size: number;
      readonly inode: number;
      readonly modifiedAtMs: number;
    }
  | { readonly kind: 'stopped' }
  /** With the system's code. */
  | { readonly kind: 'failed'; readonly code: string };

/** Places in the numbers that both threads see: 1 to stop what is under way. */
export const stopAt = 0;
/** The rate that is not to be passed, in KiB a second; 0: none. */
export const kibPerSecondAt = 1;
