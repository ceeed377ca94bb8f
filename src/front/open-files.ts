import { closeSync, fstatSync, openSync } from 'node:fs';
import { LRUCache } from 'lru-cache';
import type { KeptFile } from './kept-answer.ts';

/** A file that has been removed is closed at the latest after this, in milliseconds: until then it takes space. */
const sweepMs = 1_000;

/** A file open for reading; stays open until it is disposed, also where it leaves the list meanwhile. */
export interface OpenFile extends Disposable {
  readonly fd: number;
}

interface Entry {
  readonly fd: number;
  /** Transfers under way. */
  readers: number;
  /** Not in the list any more: closed with its last reader. */
  isLeft: boolean;
}

/** The files used last, open. To open one and look at it is answered from the memory of the system: no wait for the disk. */
export class OpenFiles implements Disposable {
  readonly #entries: LRUCache<string, Entry>;
  #timer: NodeJS.Timeout | undefined;

  /** @param max how many files stay open beside those that are being read */
  constructor({ max }: { readonly max: number }) {
    this.#entries = new LRUCache({
      max,
      dispose(entry) {
        entry.isLeft = true;
        closeUnread(entry);
      },
    });
  }

  /** The file, if it is still there and as it was; else `undefined`. */
  open({ path, size, modifiedAtMs }: KeptFile): OpenFile | undefined {
    const entry = this.#entries.get(path) ?? this.#add(path);
    if (entry === undefined) return undefined;
    const found = fstatSync(entry.fd);
    if (found.nlink === 0 || found.size !== size || found.mtimeMs !== modifiedAtMs) {
      this.#entries.delete(path);
      return undefined;
    }
    entry.readers += 1;
    let isOver = false;
    return {
      fd: entry.fd,
      [Symbol.dispose]: () => {
        if (isOver) return;
        isOver = true;
        entry.readers -= 1;
        closeUnread(entry);
      },
    };
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#entries.clear();
  }

  #add(path: string): Entry | undefined {
    let fd: number;
    try {
      fd = openSync(path, 'r');
    } catch {
      // Evicted, or no descriptor is left: the application knows what to do.
      return undefined;
    }
    const entry: Entry = { fd, readers: 0, isLeft: false };
    this.#entries.set(path, entry);
    this.#timer ??= setTimeout(() => this.#sweep(), sweepMs).unref();
    return entry;
  }

  /** Closes files that have been removed. */
  #sweep(): void {
    for (const [path, { fd }] of this.#entries.entries()) if (fstatSync(fd).nlink === 0) this.#entries.delete(path);
    this.#timer = this.#entries.size === 0 ? undefined : setTimeout(() => this.#sweep(), sweepMs).unref();
  }
}

function closeUnread(entry: Entry): void {
  if (entry.isLeft && entry.readers === 0) closeSync(entry.fd);
}
