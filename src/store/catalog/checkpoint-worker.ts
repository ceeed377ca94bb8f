import { DatabaseSync } from 'node:sqlite';
import { parentPort, workerData } from 'node:worker_threads';
import { asked, type CheckpointAnswer, holdAt, idle, running, stateAt } from './checkpoint-job.ts';

// The thread of a Checkpointer: it waits for the disk so that the event loop does not.

/** Another pass moves the pages that were written during the one before, and is shorter. */
const mostPasses = 5;

const shared = workerData as Int32Array<SharedArrayBuffer>;

function checkpoint(path: string): void {
  // Its own connection, for this alone: the last one to be closed removes the log, and that is to be the catalog's.
  using database = new DatabaseSync(path, { timeout: 1_000 });
  database.exec('PRAGMA synchronous = NORMAL');
  for (let pass = 1; pass <= mostPasses && Atomics.load(shared, stateAt) === running; pass += 1) {
    if (pass > 1) Atomics.store(shared, holdAt, 1);
    const { busy, log, checkpointed } = database.prepare('PRAGMA wal_checkpoint(PASSIVE)').get() ?? {};
    if (busy === 0 && log === checkpointed) return;
  }
}

parentPort?.on('message', (path: string) => {
  // The catalog may have been closed meanwhile.
  if (Atomics.compareExchange(shared, stateAt, asked, running) !== asked) return;
  let answer: CheckpointAnswer = { kind: 'done' };
  try {
    checkpoint(path);
  } catch (error) {
    answer = { kind: 'failed', message: error instanceof Error ? error.message : String(error) };
  } finally {
    Atomics.store(shared, holdAt, 0);
    Atomics.store(shared, stateAt, idle);
    Atomics.notify(shared, stateAt);
  }
  parentPort?.postMessage(answer);
});
