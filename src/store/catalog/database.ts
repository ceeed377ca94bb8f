import type { DatabaseSync, SQLInputValue, SQLOutputValue, StatementSync } from 'node:sqlite';
import { LRUCache } from 'lru-cache';
import { inodeOf } from '../files/file-system.ts';
import { beginCatalogFile, openCatalogFile } from './catalog-file.ts';
import { DirectoryLock } from './directory-lock.ts';
import { isBroken, isLocked, sqliteCode } from './sqlite-error.ts';

/** The path of a database that is on no disk. */
export const inMemory = ':memory:';

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
  /** Told when the file was found damaged or gone: it has been set aside, and everything is empty. */
  onReplaced: () => void = () => undefined;
  #connection: DatabaseSync;
  #inode: number | undefined;
  #lock: DirectoryLock | undefined;
  readonly #statements = new Map<string, StatementSync>();
  readonly #repositoryIds = new LRUCache<string, number>({ max: 10_000 });
  readonly #options: DatabaseOptions;
  #faults = 0;
  #replacing: NodeJS.Immediate | undefined;
  #waiting: (() => void)[] = [];
  #flushing: NodeJS.Immediate | undefined;
  #isWriting = false;

  private constructor(connection: DatabaseSync, lock: DirectoryLock | undefined, options: DatabaseOptions) {
    this.#connection = connection;
    this.#inode = inodeOf(options.path);
    this.#lock = lock;
    this.#options = options;
  }

  /**
   * Takes the lock of the file's directory, which ends with the process however it ends, and opens the file. The tables of an
   * older version are brought up to date. A file that cannot be read, or whose tables are none of ours, is set aside as
   * `catalog.sqlite.broken` and begun anew, as is one that is found damaged later.
   * @throws CatalogTaken in one sentence where another process has the directory; Error in one where a newer version has
   *   written the tables, or the disk does not let it be opened
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

  /** Begins anew where the file has been removed, or another put in its place: what is written to it would be lost. */
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
    this.#connection.close();
    this.#lock?.[Symbol.dispose]();
  }

  #fault(error: unknown): void {
    this.#faults += 1;
    this.#options.onFault(error);
    if (isBroken(error) && this.#connection.isOpen) this.#replacing ??= setImmediate(() => this.#replace());
  }

  /** Begins anew with an empty file: what was damaged can be neither trusted nor mended. */
  #replace(): void {
    const { path, onFault } = this.#options;
    try {
      this.#lock?.takeAgain();
      const next = beginCatalogFile(path);
      this.#connection.close();
      this.#connection = next;
      this.#inode = inodeOf(path);
      this.#statements.clear();
      this.#repositoryIds.clear();
    } catch (error) {
      onFault(error);
      return;
    }
    this.onReplaced();
  }
}
