import type { Database } from './database.ts';
import { text } from './row.ts';

/** Small values that outlive the process, by name. */
export class NoteRecords {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** The value of a name. */
  get(name: string): string | undefined {
    const row = this.#database.get('SELECT value FROM notes WHERE name = ?', name);
    return row === undefined ? undefined : text(row, 'value');
  }

  /** Sets the value of a name. */
  set(name: string, value: string): void {
    this.#database.write(() => this.#database.run('INSERT OR REPLACE INTO notes VALUES (?, ?)', name, value));
  }

  /** Deletes the value of a name. */
  remove(name: string): void {
    this.#database.write(() => this.#database.run('DELETE FROM notes WHERE name = ?', name));
  }
}
