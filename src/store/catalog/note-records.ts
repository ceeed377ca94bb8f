import type { Database } from './database.ts';
import { text } from './row.ts';

/** Small things that outlive the process, by name. */
export class NoteRecords {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** What was noted under a name. */
  get(name: string): string | undefined {
    const row = this.#database.get('SELECT value FROM notes WHERE name = ?', name);
    return row === undefined ? undefined : text(row, 'value');
  }

  /** Notes something in place of what was noted under that name. */
  set(name: string, value: string): void {
    this.#database.write(() => this.#database.run('INSERT OR REPLACE INTO notes VALUES (?, ?)', name, value));
  }

  /** Forgets what was noted under a name. */
  remove(name: string): void {
    this.#database.write(() => this.#database.run('DELETE FROM notes WHERE name = ?', name));
  }
}
