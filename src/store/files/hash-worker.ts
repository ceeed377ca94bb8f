import { createHash } from 'node:crypto';
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { type HashAnswer, type HashJob, kibPerSecondAt, stopAt } from './hash-job.ts';
import { isOdd, readFlags } from './plain-file.ts';

// The thread of a FileHasher. It has nothing else to do, so it reads and waits synchronously and does not use the thread
// pool, which transfers need.

const chunk = Buffer.allocUnsafe(1024 * 1024);
/** Bytes read between two progress messages. */
const reportBytes = 8 * 1024 * 1024;

const control = workerData as Int32Array<SharedArrayBuffer>;

/** Limits the rate of reading. */
class Pace {
  /** The time at which everything read so far is within the rate. */
  #paidUntilMs = 0;

  /** How long to wait, in milliseconds, after bytes have been read. */
  waitMs(bytes: number): number {
    const bytesPerSecond = Atomics.load(control, kibPerSecondAt) * 1024;
    if (bytesPerSecond === 0) return 0;
    const now = performance.now();
    this.#paidUntilMs = Math.max(this.#paidUntilMs, now) + (bytes / bytesPerSecond) * 1000;
    return this.#paidUntilMs - now;
  }
}

const pace = new Pace();

function hash({ path, algorithm }: HashJob, report: (bytes: number) => void): HashAnswer {
  const descriptor = openSync(path, readFlags);
  try {
    // From before the first byte was read: later changes have another time.
    const stats = fstatSync(descriptor);
    const { ino: inode, mtimeMs: modifiedAtMs } = stats;
    if (isOdd(stats)) return { kind: 'hashed', hex: undefined, size: 0, inode, modifiedAtMs };
    const hasher = createHash(algorithm);
    let size = 0;
    let reported = 0;
    while (true) {
      const count = readSync(descriptor, chunk, 0, chunk.length, size);
      if (count === 0) break;
      hasher.update(chunk.subarray(0, count));
      size += count;
      const waitMs = pace.waitMs(count);
      if (waitMs > 0 || size - reported >= reportBytes) {
        report(size - reported);
        reported = size;
      }
      if (waitMs > 0) Atomics.wait(control, stopAt, 0, waitMs);
      if (Atomics.load(control, stopAt) === 1) return { kind: 'stopped' };
    }
    report(size - reported);
    return { kind: 'hashed', hex: hasher.digest('hex'), size, inode, modifiedAtMs };
  } finally {
    closeSync(descriptor);
  }
}

parentPort?.on('message', (job: HashJob) => {
  const answer = (message: HashAnswer) => parentPort?.postMessage(message);
  try {
    answer(hash(job, (bytes) => answer({ kind: 'read', bytes })));
  } catch (error) {
    answer({ kind: 'failed', code: (error as NodeJS.ErrnoException).code ?? 'EUNKNOWN' });
  }
});
