import { chmodSync, closeSync, openSync, renameSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { subjectOfTag } from '../../oci/subject-of-tag.ts';
import { heatAfter } from '../eviction-policy.ts';
import { privateFile } from '../files/private-folders.ts';
import {
  catalogCompletion,
  catalogMigrations,
  catalogSchema,
  catalogTables,
  catalogVersion,
  rebuildNote,
} from './catalog-schema.ts';
import { isBroken, isLocked, isOfOtherTables } from './sqlite-error.ts';

/** Nothing but the thread that moves the log uses the file, too, and locks it only for moments; in milliseconds. */
const busyMs = 500;

/**
 * Opens or creates the file of a catalog, with the tables of this version. An unreadable file, or one with unknown
 * tables, is set aside.
 * @param options.onFault receives that fault
 * @throws what SQLite throws; Error in one sentence if a newer version has written the tables
 */
export function openCatalogFile(options: {
  readonly path: string;
  readonly onFault: (error: unknown) => void;
}): DatabaseSync {
  try {
    return openDatabase(options.path);
  } catch (error) {
    if (!isBroken(error) && !isOfOtherTables(error)) throw error;
    options.onFault(error);
    return beginCatalogFile(options.path);
  }
}

/** Creates an empty file; an existing one is set aside as `….broken`. @throws the system's error, what SQLite throws */
export function beginCatalogFile(path: string): DatabaseSync {
  for (const suffix of ['', '-wal', '-shm']) {
    try {
      renameSync(path + suffix, `${path}${suffix}.broken`);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  return openDatabase(path);
}

function openDatabase(path: string): DatabaseSync {
  if (path !== ':memory:') {
    // SQLite gives its logs the permissions of the file.
    closeSync(openSync(path, 'a', privateFile));
    chmodSync(path, privateFile);
  }
  const database = openWithLog(path);
  try {
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

/** With a log that another thread can move into the file, where the file system has shared memory for both. */
function openWithLog(path: string): DatabaseSync {
  const database = new DatabaseSync(path, { timeout: busyMs });
  try {
    database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE; COMMIT;');
    return database;
  } catch (error) {
    database.close();
    if (isLocked(error) || isBroken(error)) throw error;
  }
  const alone = new DatabaseSync(path);
  try {
    // Exclusive locking before WAL: no shared-memory file.
    alone.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;');
    alone.exec('BEGIN EXCLUSIVE; COMMIT;');
    return alone;
  } catch (error) {
    alone.close();
    throw error;
  }
}

/** Whether another connection may move the log of an open file into it. */
export function isLogShared(database: DatabaseSync): boolean {
  const mode = database.prepare('PRAGMA locking_mode').get()?.['locking_mode'];
  const journal = database.prepare('PRAGMA journal_mode').get()?.['journal_mode'];
  return mode === 'normal' && journal === 'wal';
}

/** Upgrades the tables to this version, atomically. @throws Error in one sentence if they are of a newer version */
function migrate(database: DatabaseSync, path: string): void {
  const found = Number(database.prepare('PRAGMA user_version').get()?.['user_version']);
  if (found > catalogVersion) {
    throw new Error(
      `${path} has version ${found} and this program knows ${catalogVersion}: use the newer program, or another cache.dir`,
    );
  }
  // Counts and scans nothing: a start must not take longer with many blobs.
  if (found === catalogVersion) {
    for (const name of catalogTables) database.prepare(`SELECT 1 FROM ${name}`);
    return;
  }
  database.exec('BEGIN EXCLUSIVE');
  try {
    if (found > 0)
      for (let version = found; version < catalogVersion; version += 1) database.exec(catalogMigrations[version] ?? '');
    database.exec(catalogSchema);
    if (found > 0 && found < 8) database.exec(catalogCompletion);
    if (found === 0) database.exec(`INSERT INTO notes VALUES ('${rebuildNote}', '')`);
    database.exec(`PRAGMA user_version = ${catalogVersion}`);
    database.exec('COMMIT');
  } catch (error) {
    if (database.isTransaction) database.exec('ROLLBACK');
    throw error;
  }
}
