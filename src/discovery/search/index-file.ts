import { chmodSync, closeSync, openSync, rmSync } from 'node:fs';
import { DatabaseSync, type SQLInputValue, type SQLOutputValue, type StatementSync } from 'node:sqlite';

/** Version of the tables below. A file of another version is begun again. */
const indexVersion = 2;

/** The path of a database that lasts as long as its thread. */
export const inMemory = ':memory:';

/** How long the file is waited for while another thread gives it back, in milliseconds. */
const busyMs = 5_000;

/** The columns by which entries can be sorted; each has an index that ends with the id. */
const sortColumns = ['name', 'version', 'created', 'changed', 'cached', 'pulled', 'size', 'pulls'] as const;

const schema = `
-- What conditions and orders need, in short rows: some queries go through all of them. 'hidden' is 1 for a manifest without a tag
-- that is found by a tag of its own, or as part of another one. 'latest' is 1 for the newest of its type in its repository.
CREATE TABLE entries (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  repository TEXT NOT NULL,
  tag TEXT NOT NULL,
  digest TEXT NOT NULL,
  hosted INTEGER NOT NULL,
  type TEXT NOT NULL,
  hidden INTEGER NOT NULL,
  latest INTEGER NOT NULL DEFAULT 0,
  version TEXT NOT NULL,
  size INTEGER NOT NULL,
  created INTEGER NOT NULL,
  changed INTEGER NOT NULL,
  cached INTEGER NOT NULL,
  pulled INTEGER NOT NULL,
  pulls INTEGER NOT NULL,
  pass INTEGER NOT NULL,
  given TEXT NOT NULL
) STRICT;
CREATE INDEX entries_by_digest ON entries (digest);
CREATE INDEX entries_by_type ON entries (repository, type, hidden, version);
${sortColumns.map((column) => `CREATE INDEX entries_by_${column} ON entries (${column}, id) WHERE hidden = 0;`).join('\n')}

-- The rest of each entry. 'words' and 'facets' are what the full-text index has of it, for a scan.
CREATE TABLE documents (
  id INTEGER PRIMARY KEY,
  words TEXT NOT NULL,
  facets TEXT NOT NULL,
  detail TEXT NOT NULL
) STRICT;

-- What indexes of hosted repositories list.
CREATE TABLE children (
  repository TEXT NOT NULL,
  child TEXT NOT NULL,
  parent TEXT NOT NULL,
  PRIMARY KEY (repository, child, parent)
) STRICT, WITHOUT ROWID;
CREATE INDEX children_by_parent ON children (repository, parent);

-- How often each name was pulled, also while it is not here.
CREATE TABLE pulls (
  name TEXT PRIMARY KEY,
  pulls INTEGER NOT NULL,
  pulled INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 0), pass INTEGER NOT NULL) STRICT;
INSERT INTO state VALUES (0, 0);

CREATE VIRTUAL TABLE texts USING fts5(words, facets, content='', contentless_delete=1, prefix='2 3',
  tokenize='unicode61 remove_diacritics 0');
PRAGMA user_version = ${indexVersion};
`;

export type IndexRow = Readonly<Record<string, SQLOutputValue>>;

/** The database of the search index. Whatever it has can be read from the cache again, but for the numbers of pulls. */
export class IndexFile implements Disposable {
  readonly #connection: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();

  /** Opens or creates the file; one that cannot be used is begun again. @throws what SQLite throws; Error of the file system */
  constructor(path: string) {
    this.#connection = open(path);
  }

  get(sql: string, ...values: SQLInputValue[]): IndexRow | undefined {
    return this.#statement(sql).get(...values);
  }

  all(sql: string, ...values: SQLInputValue[]): IndexRow[] {
    return this.#statement(sql).all(...values);
  }

  run(sql: string, ...values: SQLInputValue[]): void {
    this.#statement(sql).run(...values);
  }

  /** Runs work in a transaction. @throws what the work throws; nothing of it is applied then */
  transaction(work: () => void): void {
    this.#connection.exec('BEGIN IMMEDIATE');
    try {
      work();
      this.#connection.exec('COMMIT');
    } catch (error) {
      if (this.#connection.isTransaction) this.#connection.exec('ROLLBACK');
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.#connection.close();
  }

  #statement(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    // The text of a query depends on its conditions: there are some hundreds of them.
    if (this.#statements.size > 500) this.#statements.clear();
    if (statement === undefined) this.#statements.set(sql, (statement = this.#connection.prepare(sql)));
    return statement;
  }
}

function open(path: string): DatabaseSync {
  try {
    return openAsIs(path);
  } catch (error) {
    if (isTaken(error)) throw error;
    for (const suffix of ['', '-wal', '-shm']) rmSync(`${path}${suffix}`, { force: true });
    return openAsIs(path);
  }
}

/** Whether another thread has the file: it is not broken then. */
function isTaken(error: unknown): boolean {
  const code = (error as { readonly errcode?: number }).errcode ?? 0;
  // SQLITE_BUSY and SQLITE_LOCKED, with or without an extended code.
  return (code & 0xff) === 5 || (code & 0xff) === 6;
}

function openAsIs(path: string): DatabaseSync {
  if (path !== inMemory) {
    // It names what is in private repositories.
    closeSync(openSync(path, 'a', 0o600));
    chmodSync(path, 0o600);
  }
  const connection = new DatabaseSync(path, { timeout: busyMs });
  try {
    // Entries that a power failure takes are read from the cache again.
    connection.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;');
    connection.exec('PRAGMA cache_size = -16384; PRAGMA temp_store = MEMORY;');
    const version = Number(connection.prepare('PRAGMA user_version').get()?.['user_version']);
    if (version === 0) connection.exec(`BEGIN; ${schema} COMMIT;`);
    else if (version !== indexVersion) throw new Error('the index has another version');
    return connection;
  } catch (error) {
    connection.close();
    throw error;
  }
}
