import { statSync } from 'node:fs';
import type { DatabaseSync, SQLInputValue, SQLOutputValue, StatementSync } from 'node:sqlite';
import { LRUCache } from 'lru-cache';
import { upTo } from '../../oci/lru-bound.ts';
import { inodeOf } from '../files/file-system.ts';
import { beginCatalogFile, isLogShared, openCatalogFile } from './catalog-file.ts';
import { Checkpointer } from './checkpointer.ts';
import { DirectoryLock } from './directory-lock.ts';
import { isBroken, isLocked, sqliteCode } from './sqlite-error.ts';
import { Transactions } from './transactions.ts';

/** SQLite moves its log into the file after so many pages, where there is no thread for that. */
const autocheckpointPages = 1000;
/** The length of the log is looked at after so many commits. */
const commitsPerLook = 16;

/** The path of an in-memory database. */
export const inMemory = ':memory:';

export interface DatabaseOptions {
  /** Path of the database file. */
  readonly path: string;
  /** Receives every failed read or write. */
  readonly onFault: (error: unknown) => void;
}

/** Another process owns the file, and with it the directory. */
export class CatalogTaken extends Error {}

/** The tables of the catalog in one SQLite file that this process owns. */
export class Database implements Disposable {
  /** Called when the file was found damaged or missing: it has been set aside, and all tables are empty. */
  onReplaced: () => void = () => undefined;
  #connection: DatabaseSync;
  #inode: number | undefined;
  #lock: DirectoryLock | undefined;
  readonly #statements = new Map<string, StatementSync>();
  readonly #repositoryIds = new LRUCache<string, number>(upTo(10_000));
  readonly #options: DatabaseOptions;
  readonly #transactions = new Transactions({
    connection: () => this.#connection,
    onRolledBack: () => {
      this.#changes += 1;
      this.#repositoryIds.clear();
    },
    onFault: (error) => this.#fault(error),
    isHeld: () => this.#checkpointer?.isEnding === true,
    onCommitted: () => this.#lookAtLog(),
  });
  #checkpointer: Checkpointer | undefined;
  #commits = 0;
  #changes = 0;
  #faults = 0;
  #replacing: NodeJS.Immediate | undefined;

  private constructor(connection: DatabaseSync, lock: DirectoryLock | undefined, options: DatabaseOptions) {
    this.#connection = connection;
    this.#inode = inodeOf(options.path);
    this.#lock = lock;
    this.#options = options;
    this.#checkpointApart();
  }

  /**
   * Takes the lock of the file's directory, which the process holds until it ends, however it ends, and opens the file.
   * Tables of an older version are upgraded. An unreadable file, one with unknown tables, and one that is found damaged
   * later are set aside as `catalog.sqlite.broken` and replaced by an empty one.
   * @throws CatalogTaken in one sentence if another process owns the directory; Error in one sentence if a newer version has
   *   written the tables, or the disk does not allow it to be opened
   */
  static async open(options: DatabaseOptions): Promise<Database> {
    const { path } = options;
    using taken = new DisposableStack();
    try {
      const lock = path === inMemory ? undefined : taken.use(DirectoryLock.take(path));
      const database = new Database(openCatalogFile(options), lock, options);
      taken.move();
      return database;
    } catch (error) {
      if (isLocked(error)) {
        throw new CatalogTaken(`another Millpond uses ${path}: one cache directory has one owner`, { cause: error });
      }
      if (sqliteCode(error) === undefined) throw error;
      throw new Error(`cannot open ${path}: ${(error as Error).message}`, { cause: error });
    }
  }

  /** Called within transactions, when all works have run that were to be written until then. */
  set beforeCommit(called: () => void) {
    this.#transactions.beforeCommit = called;
  }

  /**
   * Runs work in a transaction together with what else comes within a few milliseconds, without delaying anything that
   * waits for an answer. If it fails, none of it is applied, and the fault is reported. Reads see it at once. Nested work
   * runs immediately.
   */
  write(work: () => void): void {
    this.#transactions.add(work);
  }

  /** Runs the work that {@link write} has deferred, and commits it. */
  flush(): void {
    this.#transactions.commit();
  }

  /** As {@link write}, at once. @throws Error if it fails; none of it is applied then */
  writeNow(work: () => void): void {
    if (this.#transactions.isWriting) return work();
    try {
      this.#transactions.now(work);
    } catch (error) {
      this.#fault(error);
      throw new Error('the catalog cannot be written', { cause: error });
    }
  }

  /** The first row; `undefined` if there is none or it cannot be read. */
  get(sql: string, ...values: SQLInputValue[]): Record<string, SQLOutputValue> | undefined {
    this.#transactions.apply();
    try {
      return this.#statement(sql).get(...values);
    } catch (error) {
      this.#fault(error);
      return undefined;
    }
  }

  /** All rows; none if they cannot be read. */
  all(sql: string, ...values: SQLInputValue[]): Record<string, SQLOutputValue>[] {
    this.#transactions.apply();
    try {
      return this.#statement(sql).all(...values);
    } catch (error) {
      this.#fault(error);
      return [];
    }
  }

  /** Whether any row matches; reads only as many rows as necessary. False if they cannot be read. */
  some(sql: string, isWanted: (row: Record<string, SQLOutputValue>) => boolean, ...values: SQLInputValue[]): boolean {
    this.#transactions.apply();
    try {
      for (const row of this.#statement(sql).iterate(...values)) if (isWanted(row)) return true;
    } catch (error) {
      this.#fault(error);
    }
    return false;
  }

  /** Call it within {@link write}. @throws what SQLite throws */
  run(sql: string, ...values: SQLInputValue[]): void {
    this.#changes += 1;
    this.#statement(sql).run(...values);
  }

  /** Runs statements without values, at once; a failure is reported. */
  script(sql: string): void {
    this.flush();
    this.#changes += 1;
    try {
      this.#connection.exec(sql);
    } catch (error) {
      this.#fault(error);
    }
  }

  #statement(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (!statement) {
      statement = this.#connection.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  /** The id of a repository in the tables; `undefined` where it has none. */
  knownRepositoryId(name: string): number | undefined {
    const cached = this.#repositoryIds.get(name);
    if (cached !== undefined) return cached;
    const row = this.get('SELECT id FROM repositories WHERE name = ?', name);
    if (row === undefined) return undefined;
    const id = Number(row['id']);
    this.#repositoryIds.set(name, id);
    return id;
  }

  /** As {@link knownRepositoryId}, of a repository that is given one. Call it within {@link write}. */
  repositoryId(name: string): number {
    const cached = this.#repositoryIds.get(name);
    if (cached !== undefined) return cached;
    this.run('INSERT OR IGNORE INTO repositories (name) VALUES (?)', name);
    const id = Number(this.get('SELECT id FROM repositories WHERE name = ?', name)?.['id']);
    this.#repositoryIds.set(name, id);
    return id;
  }

  /** Is another number when what a read finds may have changed. */
  get changes(): number {
    this.#transactions.apply();
    return this.#changes;
  }

  /** The number of failed reads and writes: readers of many rows must know that none is missing. */
  get faults(): number {
    return this.#faults;
  }

  /** Starts with an empty file if the file has been removed or replaced: what is written to it would be lost. */
  look(): void {
    const { path, onFault } = this.#options;
    try {
      if (inodeOf(path) === this.#inode) return;
    } catch (error) {
      onFault(error);
      return;
    }
    onFault(new Error(`${path} has been removed or replaced while it was in use`));
    this.#replace();
  }

  [Symbol.dispose](): void {
    clearImmediate(this.#replacing);
    this.#replacing = undefined;
    this.flush();
    this.#checkpointer?.[Symbol.dispose]();
    this.#connection.close();
    this.#lock?.[Symbol.dispose]();
  }

  /** Leaves it to a thread to move the log into the file, where that can be. */
  #checkpointApart(): void {
    const { path } = this.#options;
    this.#checkpointer?.[Symbol.dispose]();
    this.#checkpointer = undefined;
    if (path === inMemory || !isLogShared(this.#connection)) return;
    // A log that begins again is cut: its length tells how much of it is to be moved.
    this.#connection.exec('PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = 0');
    const onFailed = (): void => {
      this.#checkpointer = undefined;
      if (this.#connection.isOpen) this.#connection.exec(`PRAGMA wal_autocheckpoint = ${autocheckpointPages}`);
    };
    this.#checkpointer = new Checkpointer({ path, onFailed });
  }

  #lookAtLog(): void {
    this.#commits += 1;
    if (this.#commits % commitsPerLook !== 0) return;
    const found = statSync(`${this.#options.path}-wal`, { throwIfNoEntry: false });
    this.#checkpointer?.look(found?.size ?? 0);
  }

  #fault(error: unknown): void {
    this.#faults += 1;
    this.#options.onFault(error);
    if (isBroken(error) && this.#connection.isOpen) this.#replacing ??= setImmediate(() => this.#replace());
  }

  /** Starts with an empty file: a damaged one can be neither trusted nor repaired. */
  #replace(): void {
    const { path, onFault } = this.#options;
    try {
      this.#lock?.takeAgain();
      const next = beginCatalogFile(path);
      this.#transactions.keep();
      this.#connection.close();
      this.#connection = next;
      this.#inode = inodeOf(path);
      this.#changes += 1;
      this.#statements.clear();
      this.#repositoryIds.clear();
      this.#checkpointApart();
    } catch (error) {
      onFault(error);
      return;
    }
    this.onReplaced();
  }
}
