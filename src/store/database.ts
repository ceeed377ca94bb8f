import { renameSync } from 'node:fs';
import { DatabaseSync, type SQLInputValue, type SQLOutputValue, type StatementSync } from 'node:sqlite';
import { LRUCache } from 'lru-cache';
import { catalogMigrations, catalogSchema, catalogTables, catalogVersion, rebuildNote } from './catalog-schema.ts';
import { heatAfter } from './eviction-policy.ts';
import { subjectOfTag } from './subject-of-tag.ts';

export interface DatabaseOptions {
  /** Path of the database file. */
  readonly path: string;
  /** Told of every failed read or write. */
  readonly onFault: (error: unknown) => void;
}

/** Another process has the file, and with it the directory. */
export class CatalogTaken extends Error {}

/** The tables of the catalog in one SQLite file that this process has for itself. */
export class Database implements Disposable {
  /** Told when the file was found damaged: it has been set aside, and everything is empty. Once in a process. */
  onReplaced: () => void = () => undefined;
  #connection: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  readonly #repositoryIds = new LRUCache<string, number>({ max: 10_000 });
  readonly #options: DatabaseOptions;
  #faults = 0;
  #replacing: NodeJS.Immediate | undefined;
  #waiting: (() => void)[] = [];
  #flushing: NodeJS.Immediate | undefined;
  #isWriting = false;

  private constructor(connection: DatabaseSync, options: DatabaseOptions) {
    this.#connection = connection;
    this.#options = options;
  }

  /**
   * Opens the file and takes the directory's lock, which ends with the process however it ends. The tables of an older
   * version are brought up to date. A file that cannot be read, or whose tables are none of ours, is set aside as
   * `catalog.sqlite.broken` and begun anew, as is one that is found damaged later.
   * @throws CatalogTaken in one sentence where another process has the directory; Error in one where a newer version has
   *   written the tables, or the disk does not let it be opened
   */
  static async open(options: DatabaseOptions): Promise<Database> {
    try {
      return new Database(openDatabase(options.path), options);
    } catch (error) {
      if (isLocked(error)) {
        throw new CatalogTaken(`another Millpond uses ${options.path}: one cache directory has one owner`, {
          cause: error,
        });
      }
      if (!isBroken(error) && !isOfOtherTables(error)) {
        if (sqliteCode(error) === undefined) throw error;
        throw new Error(`cannot open ${options.path}: ${(error as Error).message}`, { cause: error });
      }
      options.onFault(error);
      setAside(options.path);
      return new Database(openDatabase(options.path), options);
    }
  }

  /**
   * Does work in a transaction, together with what else comes in this turn: nobody who waits for an answer waits for it.
   * Where it fails nothing of it holds, and the fault is told. Reads see it at once. Within such work, more of it is done
   * on the spot.
   */
  write(work: () => void): void {
    if (this.#isWriting) {
      work();
      return;
    }
    this.#waiting.push(work);
    this.#flushing ??= setImmediate(() => this.flush());
  }

  /** Does now what {@link write} has put off. */
  flush(): void {
    clearImmediate(this.#flushing);
    this.#flushing = undefined;
    if (this.#waiting.length === 0) return;
    const works = this.#waiting;
    this.#waiting = [];
    try {
      this.#transaction(works);
    } catch {
      // One of them may be to blame: the others are not to be lost with it.
      for (const work of works) {
        try {
          this.#transaction([work]);
        } catch (own) {
          this.#fault(own);
        }
      }
    }
  }

  /** As {@link write}, at once. @throws Error where it fails: nothing of it holds then */
  writeNow(work: () => void): void {
    if (this.#isWriting) return work();
    this.flush();
    try {
      this.#transaction([work]);
    } catch (error) {
      this.#fault(error);
      throw new Error('the catalog cannot be written', { cause: error });
    }
  }

  #transaction(works: readonly (() => void)[]): void {
    this.#connection.exec('BEGIN IMMEDIATE');
    this.#isWriting = true;
    try {
      for (const work of works) work();
      this.#connection.exec('COMMIT');
    } catch (error) {
      // A full disk may have rolled the transaction back already, and an id given inside it is gone.
      this.#repositoryIds.clear();
      if (this.#connection.isTransaction) this.#connection.exec('ROLLBACK');
      throw error;
    } finally {
      this.#isWriting = false;
    }
  }

  /** The first row; `undefined` where there is none or it cannot be read. */
  get(sql: string, ...values: SQLInputValue[]): Record<string, SQLOutputValue> | undefined {
    if (!this.#isWriting) this.flush();
    try {
      return this.#statement(sql).get(...values);
    } catch (error) {
      this.#fault(error);
      return undefined;
    }
  }

  /** All rows; none where they cannot be read. */
  all(sql: string, ...values: SQLInputValue[]): Record<string, SQLOutputValue>[] {
    if (!this.#isWriting) this.flush();
    try {
      return this.#statement(sql).all(...values);
    } catch (error) {
      this.#fault(error);
      return [];
    }
  }

  /** Whether one of the rows is as wanted; reads no more of them than that takes. False where they cannot be read. */
  some(sql: string, isWanted: (row: Record<string, SQLOutputValue>) => boolean, ...values: SQLInputValue[]): boolean {
    if (!this.#isWriting) this.flush();
    try {
      for (const row of this.#statement(sql).iterate(...values)) if (isWanted(row)) return true;
    } catch (error) {
      this.#fault(error);
    }
    return false;
  }

  /** To be called within {@link write}. @throws what SQLite says */
  run(sql: string, ...values: SQLInputValue[]): void {
    this.#statement(sql).run(...values);
  }

  #statement(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (!statement) {
      statement = this.#connection.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  /** The number that stands for a repository in the tables. To be called within {@link write}. */
  repositoryId(name: string): number {
    const cached = this.#repositoryIds.get(name);
    if (cached !== undefined) return cached;
    this.run('INSERT OR IGNORE INTO repositories (name) VALUES (?)', name);
    const id = Number(this.get('SELECT id FROM repositories WHERE name = ?', name)?.['id']);
    this.#repositoryIds.set(name, id);
    return id;
  }

  /** How many reads and writes have failed: whoever reads many rows must know that none was left out. */
  get faults(): number {
    return this.#faults;
  }

  [Symbol.dispose](): void {
    clearImmediate(this.#replacing);
    this.#replacing = undefined;
    this.flush();
    this.#connection.close();
  }

  #fault(error: unknown): void {
    this.#faults += 1;
    this.#options.onFault(error);
    if (isBroken(error) && this.#connection.isOpen) this.#replacing ??= setImmediate(() => this.#replace());
  }

  /** Begins anew with an empty file: what was damaged can be neither trusted nor mended. */
  #replace(): void {
    try {
      this.#connection.close();
      setAside(this.#options.path);
      this.#connection = openDatabase(this.#options.path);
      this.#statements.clear();
      this.#repositoryIds.clear();
    } catch (error) {
      this.#options.onFault(error);
      return;
    }
    this.onReplaced();
  }
}

function setAside(path: string): void {
  for (const suffix of ['', '-wal', '-shm']) {
    try {
      renameSync(path + suffix, `${path}${suffix}.broken`);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
}

function openDatabase(path: string): DatabaseSync {
  const database = new DatabaseSync(path);
  try {
    // Exclusive locking before WAL: no shared-memory file, and a second owner is refused.
    database.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;');
    database.exec('BEGIN EXCLUSIVE; COMMIT;');
    database.function('heat_after', { deterministic: true }, (heat, uses, nowMs) =>
      heatAfter(heat === null ? undefined : Number(heat), Number(uses), Number(nowMs)),
    );
    database.function('subject_of_tag', { deterministic: true }, (tag) => subjectOfTag(String(tag)) ?? null);
    migrate(database, path);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

/** Makes the tables those of this version: all of it or nothing. @throws Error in one sentence where they are of a newer one */
function migrate(database: DatabaseSync, path: string): void {
  const found = Number(database.prepare('PRAGMA user_version').get()?.['user_version']);
  if (found > catalogVersion) {
    throw new Error(
      `${path} has version ${found} and this program knows ${catalogVersion}: use the newer program, or another cache.dir`,
    );
  }
  // Nothing is counted or looked through again: a start must not take longer for having many blobs.
  if (found === catalogVersion) {
    for (const name of catalogTables) database.prepare(`SELECT 1 FROM ${name}`);
    return;
  }
  database.exec('BEGIN EXCLUSIVE');
  try {
    if (found > 0)
      for (let version = found; version < catalogVersion; version += 1) database.exec(catalogMigrations[version] ?? '');
    database.exec(catalogSchema);
    if (found === 0) database.exec(`INSERT INTO notes VALUES ('${rebuildNote}', '')`);
    database.exec(`PRAGMA user_version = ${catalogVersion}`);
    database.exec('COMMIT');
  } catch (error) {
    if (database.isTransaction) database.exec('ROLLBACK');
    throw error;
  }
}

function sqliteCode(error: unknown): number | undefined {
  return error instanceof Error && 'errcode' in error && typeof error.errcode === 'number'
    ? error.errcode & 0xff
    : undefined;
}

function isLocked(error: unknown): boolean {
  return sqliteCode(error) === 5 || sqliteCode(error) === 6;
}

// SQLITE_CORRUPT and SQLITE_NOTADB.
function isBroken(error: unknown): boolean {
  return sqliteCode(error) === 11 || sqliteCode(error) === 26;
}

// SQLITE_ERROR, of a statement: a table or column that it names is not there.
function isOfOtherTables(error: unknown): boolean {
  return sqliteCode(error) === 1;
}
