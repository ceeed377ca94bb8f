import { chownSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { inodeOf } from '../files/file-system.ts';

/**
 * Holds a cache directory for this process, and ends with it however it ends: a lock of SQLite on an empty file of its own,
 * which is nothing to anybody. A catalog can be deleted, set aside or restored, and a lock on it goes with it.
 */
export class DirectoryLock implements Disposable {
  readonly #path: string;
  #held: Held;

  private constructor(path: string) {
    this.#path = path;
    this.#held = hold(path);
  }

  /** Takes the directory of a file. @throws what SQLite says: that it is locked where another process has the directory */
  static take(file: string): DirectoryLock {
    return new DirectoryLock(join(dirname(file), 'owner.lock'));
  }

  /** Where somebody has emptied the directory, and the file went with the rest: holds it once more. @throws as {@link take} */
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

/** A command of root must not take the directory from the user that the mirror runs as: SQLite does the same for its logs. */
function leaveToOwner(path: string): void {
  if (process.getuid?.() !== 0) return;
  try {
    const { uid, gid } = statSync(dirname(path));
    chownSync(path, uid, gid);
  } catch {
    // Not every root may, nor is it needed where all is root's.
  }
}
