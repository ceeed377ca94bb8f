/** Files to be written, one after the other. The content of all of them is in one piece of memory. */
export interface SmallFileJob {
  readonly bytes: Uint8Array;
  readonly files: readonly SmallFile[];
}

export interface SmallFile {
  /** Where it is written, in a folder that is made where it is missing. */
  readonly temporary: string;
  /** Where it is moved once it is whole; as above. */
  readonly path: string;
  /** Where its content ends in the memory; it begins where that of the one before ends. */
  readonly end: number;
  /** The content instead, of a file that is on the disk before it has its name. */
  readonly pieces?: readonly Uint8Array[];
}

/** Asks to be answered when all that has been written before is on the disk. */
export const syncJob = 'sync';

/** For each file, its modification time in milliseconds, or the system's code. */
export type SmallFileAnswer = readonly (number | string)[] | typeof syncJob;
