import { closeSync, fstatSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { parentPort } from 'node:worker_threads';
import { privateFile, privateFolder } from './private-folders.ts';
import { type SmallFile, type SmallFileAnswer, type SmallFileJob, syncJob } from './small-file-job.ts';

// The thread of SmallFiles. It has nothing else to do: calls that wait cost half the processor time of those that do not.

/** A system writes what is in its memory after half a minute: then it need not be asked to, in milliseconds. */
const settledAfterMs = 60_000;
/** So many are synced before other work has its turn. */
const syncedAtOnce = 8;

/** Files that a power failure could still take. */
class Unsynced {
  /** When each was written, the oldest first. */
  readonly #files = new Map<string, number>();
  readonly #folders = new Set<string>();

  /** A file has its name. */
  add(path: string): void {
    const nowMs = performance.now();
    this.#files.set(path, nowMs);
    this.#folders.add(dirname(path));
    for (const [oldest, atMs] of this.#files) {
      if (nowMs - atMs < settledAfterMs) break;
      this.#files.delete(oldest);
    }
  }

  /** A file that is on the disk has its name. */
  addName(path: string): void {
    this.#folders.add(dirname(path));
  }

  /** Answers when everything is on the disk. */
  settle(): void {
    let count = 0;
    for (const path of this.#files.keys()) {
      this.#files.delete(path);
      sync(path);
      if ((count += 1) === syncedAtOnce) break;
    }
    if (this.#files.size > 0) {
      setImmediate(() => this.settle());
      return;
    }
    for (const folder of this.#folders) sync(folder);
    parentPort?.postMessage(syncJob);
  }
}

const unsynced = new Unsynced();

/**
 * A small file is not synced before it has its name: it is compared with its digest whenever it is read. A larger one is
 * trusted by its size and time.
 */
function write({ temporary, path, pieces }: SmallFile, content: Uint8Array): number {
  const descriptor = openSync(temporary, 'w', privateFile);
  let modifiedAtMs: number;
  try {
    for (const piece of pieces ?? [content]) {
      for (let position = 0; position < piece.length; ) {
        position += writeSync(descriptor, piece, position, piece.length - position);
      }
    }
    modifiedAtMs = fstatSync(descriptor).mtimeMs;
    if (pieces) fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
  renameSync(temporary, path);
  if (pieces) unsynced.addName(path);
  else unsynced.add(path);
  return modifiedAtMs;
}

function sync(path: string): void {
  try {
    const descriptor = openSync(path, 'r');
    try {
      fsyncSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
  } catch {
    // Evicted meanwhile, or the disk fails, which the next write reports.
  }
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? 'EUNKNOWN';
}

/** Makes the folders that have been removed under a running mirror; not the cache directory itself. */
function makeFolders({ temporary, path }: SmallFile): void {
  const folder = dirname(path);
  for (const each of [dirname(temporary), dirname(folder), folder]) {
    try {
      mkdirSync(each, { mode: privateFolder });
    } catch (error) {
      if (codeOf(error) !== 'EEXIST') throw error;
    }
  }
}

function attempt(file: SmallFile, content: Uint8Array): number | string {
  try {
    try {
      return write(file, content);
    } catch (error) {
      if (codeOf(error) !== 'ENOENT') throw error;
      makeFolders(file);
      return write(file, content);
    }
  } catch (error) {
    rmSync(file.temporary, { force: true });
    return codeOf(error);
  }
}

function writeAll({ bytes, files }: SmallFileJob): SmallFileAnswer {
  let start = 0;
  return files.map((file) => {
    const content = bytes.subarray(start, file.end);
    start = file.end;
    return attempt(file, content);
  });
}

parentPort?.on('message', (job: SmallFileJob | typeof syncJob) => {
  if (job === syncJob) unsynced.settle();
  else parentPort?.postMessage(writeAll(job));
});
