/** What a {@link Checkpointer} and its thread share: index into the shared numbers. */

/** 1: the thread is about to reach the end of the log, which is not to grow for a moment. */
export const holdAt = 0;

/** The thread's answer. */
export type CheckpointAnswer =
  /** `isWhole`: all of the log is in the file, so that the next write begins the log again. */
  | { readonly kind: 'done'; readonly isWhole: boolean }
  /** With a sentence of SQLite. */
  | { readonly kind: 'failed'; readonly message: string };
