import type { DigestAlgorithm } from '../../oci/digest.ts';

/** A request of a {@link FileHasher} to its thread. */
export interface HashJob {
  readonly path: string;
  readonly algorithm: DigestAlgorithm;
}

/** A message of the thread: `read` any number of times, and then one of the others. */
export type HashAnswer =
  | { readonly kind: 'read'; readonly bytes: number }
  | {
      readonly kind: 'hashed';
      /** `undefined`: it is not a readable file. */
      readonly hex: string | undefined;
      readonly size: number;
      readonly inode: number;
      readonly modifiedAtMs: number;
    }
  | { readonly kind: 'stopped' }
  /** With the system's code. */
  | { readonly kind: 'failed'; readonly code: string };

/** Index into the shared numbers: 1 stops the current work. */
export const stopAt = 0;
/** Maximum rate in KiB per second; 0: unlimited. */
export const kibPerSecondAt = 1;
