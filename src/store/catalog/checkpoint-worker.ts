import { DatabaseSync } from 'node:sqlite';
import { parentPort, workerData } from 'node:worker_threads';
import { type CheckpointAnswer, holdAt } from './checkpoint-job.ts';

// The thread of a Checkpointer: it waits for the disk so that the event loop does not.

/** What is written meanwhile is moved by another pass, which is shorter. */
const mostPasses = 5;

const hold = workerData as Int32Array<SharedArrayBuffer>;

function checkpoint(path: string): CheckpointAnswer {
  // Its own connection, for this alone: the last one to be closed removes the log, and that is to be the catalog's.
  using database = new DatabaseSync(path, { timeout: 1_000 });
  database.exec('PRAGMA synchronous = NORMAL');
  for (let pass = 1; pass <= mostPasses; pass += 1) {
    if (pass > 1) Atomics.store(hold, holdAt, 1);
    const { busy, log, checkpointed } = database.prepare('PRAGMA wal_checkpoint(PASSIVE)').get() ?? {};
    if (busy === 0 && log === checkpointed) return { kind: 'done', isWhole: true };
  }
  return { kind: 'done', isWhole: false };
}

parentPort?.on('message', (path: string) => {
  let answer: CheckpointAnswer;
  try {
    answer = checkpoint(path);
  } catch (error) {
    answer = { kind: 'failed', message: error instanceof Error ? error.message : String(error) };
  } finally {
    Atomics.store(hold, holdAt, 0);
  }
  parentPort?.postMessage(answer);
});
