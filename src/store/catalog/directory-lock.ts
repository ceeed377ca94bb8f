import { chownSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { inodeOf } from '../files/file-system.ts';

/**
 * Holds a cache directory for this process until it ends, however it ends: a SQLite lock on an empty file without other
 * use. A catalog can be deleted, set aside or restored, and a lock on it would be lost with it.
 */
export class DirectoryLock implements Disposable {
  readonly #path: string;
  #held: Held;

  private constructor(path: string) {
    this.#path = path;
    this.#held = hold(path);
  }

  /** Takes the directory of a file. @throws what SQLite throws: that it is locked if another process owns the directory */
  static take(file: string): DirectoryLock {
    return new DirectoryLock(join(dirname(file), 'owner.lock'));
  }

  /** Takes the lock again if the directory has been emptied and the file is gone. @throws as {@link take} */
  takeAgain(): void {
    if (inodeOf(this.#path) === this.#held.inode) return;
    const held = hold(this.#path);
    this.#held.connection.close();
    this.#held = held;
  }

  [Symbol.dispose](): void {
    this.#held.connection.close();
  }
}

interface Held {
  readonly connection: DatabaseSync;
  readonly inode: number | undefined;
}

function hold(path: string): Held {
  const connection = new DatabaseSync(path);
  try {
    // The transaction lasts until the connection is closed, and nothing is ever written: not even a journal, on disk.
    connection.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE;');
    leaveToOwner(path);
    return { connection, inode: inodeOf(path) };
  } catch (error) {
    connection.close();
    throw error;
  }
}

/** A command run by root must not take the directory from the mirror's user: SQLite does the same for its logs. */
function leaveToOwner(path: string): void {
  if (process.getuid?.() !== 0) return;
  try {
    const { uid, gid } = statSync(dirname(path));
    chownSync(path, uid, gid);
  } catch {
    // Not every root may do this, nor is it needed if root owns everything.
  }
}
