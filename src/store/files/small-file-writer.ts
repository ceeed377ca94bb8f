import system from 'node:fs';
import { dirname } from 'node:path';
import { privateFile, privateFolder } from './private-folders.ts';
import type { SmallFile, SmallFileJob } from './small-file-job.ts';

/** A system writes the data in its memory to the disk after half a minute; after this time no sync is needed. Milliseconds. */
const settledAfterMs = 60_000;
/** The number of files that are synced before other work has its turn. */
const syncedAtOnce = 8;

/** The system calls of a {@link SmallFileWriter}, and its clock. */
export interface WriterSystem {
  readonly calls: Pick<
    typeof system,
    'closeSync' | 'fstatSync' | 'fsyncSync' | 'mkdirSync' | 'openSync' | 'renameSync' | 'rmSync' | 'writeSync'
  >;
  /** A monotonic clock, in milliseconds. */
  readonly now: () => number;
  /** Calls the function after the other work that waits. */
  readonly later: (work: () => void) => void;
}

/** Writes and syncs small files with calls that wait: they cost half the processor time of those that do not. */
export class SmallFileWriter {
  readonly #system: WriterSystem;
  /** Files that a power failure could still take, and when each was written, the oldest first. */
  readonly #unsynced = new Map<string, number>();
  readonly #folders = new Set<string>();

  constructor(of: WriterSystem = { calls: system, now: () => performance.now(), later: setImmediate }) {
    this.#system = of;
  }

  /** Writes files one after the other. @returns for each file, its modification time in milliseconds, or the system's code */
  write({ bytes, files }: SmallFileJob): (number | string)[] {
    let start = 0;
    return files.map((file) => {
      const content = bytes.subarray(start, file.end);
      start = file.end;
      return this.#attempt(file, content);
    });
  }

  /** @param settled called when everything that has been written so far is on the disk */
  sync(settled: () => void): void {
    for (const path of this.#unsynced.keys().take(syncedAtOnce)) {
      this.#unsynced.delete(path);
      this.#sync(path);
    }
    if (this.#unsynced.size > 0) {
      this.#system.later(() => this.sync(settled));
      return;
    }
    for (const folder of this.#folders) this.#sync(folder);
    settled();
  }

  #attempt(file: SmallFile, content: Uint8Array): number | string {
    try {
      try {
        return this.#write(file, content);
      } catch (error) {
        if (codeOf(error) !== 'ENOENT') throw error;
        this.#makeFolders(file);
        return this.#write(file, content);
      }
    } catch (error) {
      this.#system.calls.rmSync(file.temporary, { force: true });
      return codeOf(error);
    }
  }

  /**
   * A small file is not synced before it has its name: it is compared with its digest whenever it is read. A larger one is
   * trusted by its size and time.
   */
  #write({ temporary, path, pieces }: SmallFile, content: Uint8Array): number {
    const { openSync, writeSync, fstatSync, fsyncSync, closeSync, renameSync } = this.#system.calls;
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
    this.#folders.add(dirname(path));
    if (pieces === undefined) this.#remember(path);
    return modifiedAtMs;
  }

  #remember(path: string): void {
    const nowMs = this.#system.now();
    // A file that is written again goes to the end of the order.
    this.#unsynced.delete(path);
    this.#unsynced.set(path, nowMs);
    for (const [oldest, atMs] of this.#unsynced) {
      if (nowMs - atMs < settledAfterMs) break;
      this.#unsynced.delete(oldest);
    }
  }

  #sync(path: string): void {
    const { openSync, fsyncSync, closeSync } = this.#system.calls;
    try {
      const descriptor = openSync(path, 'r');
      try {
        fsyncSync(descriptor);
      } finally {
        closeSync(descriptor);
      }
    } catch {
      // The file was evicted meanwhile, or the disk fails, which the next write reports.
    }
  }

  /** Makes the folders that have been removed under a running mirror; not the cache directory itself. */
  #makeFolders({ temporary, path }: SmallFile): void {
    const folder = dirname(path);
    for (const each of [dirname(temporary), dirname(folder), folder]) {
      try {
        this.#system.calls.mkdirSync(each, { mode: privateFolder });
      } catch (error) {
        if (codeOf(error) !== 'EEXIST') throw error;
      }
    }
  }
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? 'EUNKNOWN';
}
