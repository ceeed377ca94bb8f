import type { Digest } from '../../oci/digest.ts';
import type { Database } from './database.ts';
import { digestIn } from './row.ts';

/**
 * Notes, beside the catalog and in memory, which manifests have changed in it: their tags, rights or storage. The triggers and
 * the table belong to the connection: nothing of them is written to the file, and a start begins without any. A trigger
 * cannot say OR IGNORE: the conflict clause of the statement that fires it, such as an upsert, takes its place
 * (SQLite, CREATE TRIGGER).
 */
const watching = `
CREATE TEMP TABLE changed_manifests (id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE);
${[
  ['tag_made', 'INSERT ON main.tags', 'NEW.digest'],
  ['tag_unmade', 'DELETE ON main.tags', 'OLD.digest'],
  ['tag_moved_to', 'UPDATE OF digest ON main.tags WHEN NEW.digest <> OLD.digest', 'NEW.digest'],
  ['tag_moved_from', 'UPDATE OF digest ON main.tags WHEN NEW.digest <> OLD.digest', 'OLD.digest'],
  ['manifest_made', 'INSERT ON main.manifests', 'NEW.digest'],
  ['manifest_unmade', 'DELETE ON main.manifests', 'OLD.digest'],
  ['grant_made', `INSERT ON main.grants WHEN ${isManifest('NEW')}`, 'NEW.digest'],
  ['grant_unmade', `DELETE ON main.grants WHEN ${isManifest('OLD')}`, 'OLD.digest'],
  ['blob_made', `INSERT ON main.blobs WHEN ${isManifest('NEW')}`, 'NEW.digest'],
  ['blob_unmade', `DELETE ON main.blobs WHEN ${isManifest('OLD')}`, 'OLD.digest'],
  ['blob_shown', `UPDATE OF shown ON main.blobs WHEN NEW.shown <> OLD.shown AND ${isManifest('NEW')}`, 'NEW.digest'],
]
  .map(
    ([name, when, digest]) => `CREATE TEMP TRIGGER changed_by_${name} AFTER ${when} BEGIN
  INSERT INTO changed_manifests (digest)
  SELECT ${digest} WHERE NOT EXISTS (SELECT 1 FROM changed_manifests WHERE digest = ${digest}); END;`,
  )
  .join('\n')}
`;

function isManifest(row: 'NEW' | 'OLD'): string {
  return `EXISTS (SELECT 1 FROM main.manifests m WHERE m.digest = ${row}.digest)`;
}

/** Which manifests have changed since that was last asked. */
export class ManifestChanges {
  readonly #database: Database;
  #isWatching = false;
  #renewals = 0;

  constructor(database: Database) {
    this.#database = database;
  }

  /** How often the file was replaced: what was in it is gone, and no change says so. */
  get renewals(): number {
    return this.#renewals;
  }

  /** Begins to note changes. */
  watch(): void {
    if (this.#isWatching) return;
    this.#isWatching = true;
    this.#database.script(watching);
  }

  /** The file has been replaced: changes of the new one are noted. */
  renew(): void {
    this.#renewals += 1;
    if (this.#isWatching) this.#database.script(watching);
  }

  /** Takes some of the manifests that have changed, those that changed first. */
  take(limit: number): Digest[] {
    const rows = this.#database.all('SELECT id, digest FROM changed_manifests ORDER BY id LIMIT ?', limit);
    const last = rows.at(-1)?.['id'];
    if (last !== undefined) {
      this.#database.write(() => this.#database.run('DELETE FROM changed_manifests WHERE id <= ?', last));
      this.#database.flush();
    }
    return rows.map((row) => digestIn(row));
  }
}
