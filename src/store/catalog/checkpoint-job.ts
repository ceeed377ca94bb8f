/** The numbers that a {@link Checkpointer} and its thread share, by index. */

/** 1: the thread is about to reach the end of the log, which is not to grow for a moment. */
export const holdAt = 0;
/** Index of the thread's work on the file: one of the states below. */
export const stateAt = 1;

/** No checkpoint is due, and the thread has no connection. */
export const idle = 0;
/** A checkpoint is due; the thread has not begun it. */
export const asked = 1;
/** The thread has a connection. */
export const running = 2;
/** As {@link running}, and the thread ends after the pass that it does. */
export const ending = 3;

/** The thread's answer. */
export type CheckpointAnswer =
  | { readonly kind: 'done' }
  /** With a sentence of SQLite. */
  | { readonly kind: 'failed'; readonly message: string };
