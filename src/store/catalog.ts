import { rename } from 'node:fs/promises';
import { DatabaseSync, type SQLInputValue, type SQLOutputValue, type StatementSync } from 'node:sqlite';
import { LRUCache } from 'lru-cache';
import type { ManifestLinks } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { catalogSchema } from './catalog-schema.ts';

/** Version of the tables; a catalog of another version is set aside and begun anew. */
const catalogVersion = 1;

/** What a tag meant when the upstream was last asked. */
export interface TagRecord {
  readonly digest: Digest;
  readonly contentType: string;
  /** Bytes of the manifest. */
  readonly size: number;
  /** When the upstream last confirmed it: milliseconds since 1970. */
  readonly checkedAtMs: number;
}

/** What is known of a stored blob. */
export interface BlobRecord {
  readonly size: number;
  /** The exact `Content-Type` it came with. */
  readonly contentType: string;
}

/** A manifest that has named a subject. */
export interface ReferrerRecord {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly size: number;
  readonly artifactType: string | undefined;
  readonly annotations: Readonly<Record<string, string>> | undefined;
}

/** Which tag: `repository` is the cache's key for it (`docker.io/library/nginx`), `variant` '' or an `Accept` list. */
export interface TagKey {
  readonly repository: string;
  readonly tag: string;
  readonly variant: string;
}

export interface CatalogOptions {
  /** Path of the database file. */
  readonly path: string;
  readonly now: () => number;
  /** Told of every failed read or write; the catalog goes on with what it has in memory. */
  readonly onFault: (error: unknown) => void;
}

/**
 * What the blobs on this disk are for. Reads come from bounded memory first; a write that fails is kept there, so that a
 * full disk never fails a pull.
 */
export class Catalog implements Disposable {
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  readonly #now: () => number;
  readonly #onFault: (error: unknown) => void;
  readonly #repositoryIds = new LRUCache<string, number>({ max: 10_000 });
  readonly #tags = new LRUCache<string, TagRecord>({ max: 20_000 });
  readonly #grants = new LRUCache<string, number>({ max: 100_000 });
  readonly #blobs = new LRUCache<Digest, BlobRecord>({ max: 50_000 });
  readonly #manifests = new LRUCache<Digest, true>({ max: 50_000 });
  readonly #used = new Set<Digest>();

  private constructor(database: DatabaseSync, options: CatalogOptions) {
    this.#database = database;
    this.#now = options.now;
    this.#onFault = options.onFault;
  }

  /**
   * Opens the catalog and takes the directory's lock, which ends with the process however it ends. A catalog that cannot
   * be read is set aside as `catalog.sqlite.broken` and begun anew.
   * @throws Error in one sentence where another process has the directory
   */
  static async open(options: CatalogOptions): Promise<Catalog> {
    try {
      return new Catalog(openDatabase(options.path), options);
    } catch (error) {
      if (isLocked(error)) {
        throw new Error(`another Millpond uses ${options.path}: one cache directory has one owner`, { cause: error });
      }
      if (!isBroken(error)) throw error;
      options.onFault(error);
      for (const suffix of ['', '-wal', '-shm']) {
        await rename(options.path + suffix, `${options.path}${suffix}.broken`).catch(() => undefined);
      }
      return new Catalog(openDatabase(options.path), options);
    }
  }

  /** What a tag meant when it was last checked. */
  tag(key: TagKey): TagRecord | undefined {
    const cacheKey = tagCacheKey(key);
    const cached = this.#tags.get(cacheKey);
    if (cached) return cached;
    const row = this.#get(
      `SELECT t.digest, t.content_type, t.size, t.checked_at FROM tags t JOIN repositories r ON r.id = t.repository
       WHERE r.name = ? AND t.tag = ? AND t.variant = ?`,
      key.repository,
      key.tag,
      key.variant,
    );
    if (!row) return undefined;
    const record: TagRecord = {
      digest: row['digest'] as Digest,
      contentType: String(row['content_type']),
      size: Number(row['size']),
      checkedAtMs: Number(row['checked_at']),
    };
    this.#tags.set(cacheKey, record);
    return record;
  }

  recordTag(key: TagKey, record: TagRecord): void {
    this.#tags.set(tagCacheKey(key), record);
    this.#write(() => {
      this.#run(
        `INSERT INTO tags VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET digest = excluded.digest,
         content_type = excluded.content_type, size = excluded.size, checked_at = excluded.checked_at`,
        this.#repositoryId(key.repository),
        key.tag,
        key.variant,
        record.digest,
        record.contentType,
        record.size,
        record.checkedAtMs,
      );
    });
    this.grant(key.repository, record.digest);
  }

  /** Forgets what a tag meant: the upstream has said that it is gone. */
  forgetTag(key: TagKey): void {
    this.#tags.delete(tagCacheKey(key));
    this.#write(() => {
      this.#run(
        'DELETE FROM tags WHERE repository = ? AND tag = ? AND variant = ?',
        this.#repositoryId(key.repository),
        key.tag,
        key.variant,
      );
    });
  }

  /** The tags known of a repository, in lexical order. */
  tags(repository: string): string[] {
    const rows = this.#all(
      `SELECT DISTINCT t.tag FROM tags t JOIN repositories r ON r.id = t.repository WHERE r.name = ? ORDER BY t.tag`,
      repository,
    );
    return rows.map((row) => String(row['tag']));
  }

  /** Whether a repository may read a digest: a manifest of it names it, or the upstream has confirmed it there. */
  mayRead(repository: string, digest: Digest): boolean {
    return this.#grant(repository, digest) !== undefined;
  }

  /** The size that a manifest of the repository gives a blob, in bytes; `undefined` where none does. */
  expectedSize(repository: string, digest: Digest): number | undefined {
    const size = this.#grant(repository, digest);
    return size === undefined || size < 0 ? undefined : size;
  }

  /** Remembers that the upstream has confirmed a digest in a repository. */
  grant(repository: string, digest: Digest): void {
    if (this.mayRead(repository, digest)) return;
    this.#grants.set(`${repository} ${digest}`, -1);
    this.#write(() => {
      this.#run('INSERT OR IGNORE INTO grants VALUES (?, ?, -1)', this.#repositoryId(repository), digest);
    });
  }

  /** What is known of a blob or manifest that has been stored. */
  blob(digest: Digest): BlobRecord | undefined {
    const cached = this.#blobs.get(digest);
    if (cached !== undefined) return cached;
    const row = this.#get('SELECT size, content_type FROM blobs WHERE digest = ?', digest);
    if (!row) return undefined;
    const record: BlobRecord = { size: Number(row['size']), contentType: String(row['content_type']) };
    this.#blobs.set(digest, record);
    return record;
  }

  /** Whether a digest is known to be a manifest. */
  isManifest(digest: Digest): boolean {
    if (this.#manifests.has(digest)) return true;
    if (this.#get('SELECT 1 FROM manifests WHERE digest = ?', digest) === undefined) return false;
    this.#manifests.set(digest, true);
    return true;
  }

  /** How many blobs are known to be stored, manifests among them, and their bytes in all. */
  usage(): { blobs: number; bytes: number } {
    const row = this.#get('SELECT COUNT(*) AS blobs, TOTAL(size) AS bytes FROM blobs');
    return { blobs: Number(row?.['blobs'] ?? 0), bytes: Number(row?.['bytes'] ?? 0) };
  }

  /** Records a blob that has just been stored. */
  recordBlob(digest: Digest, { size, contentType }: BlobRecord): void {
    this.#blobs.set(digest, { size, contentType });
    const now = this.#now();
    this.#write(() => {
      this.#run(
        `INSERT INTO blobs VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET size = excluded.size,
         content_type = excluded.content_type, used_at = excluded.used_at`,
        digest,
        size,
        contentType,
        now,
        now,
      );
    });
  }

  /** Records a verified manifest, what it names, and that its repository may read all of that. */
  recordManifest(
    digest: Digest,
    {
      repository,
      size,
      contentType,
      links,
    }: { repository: string; size: number; contentType: string; links: ManifestLinks },
  ): void {
    this.recordBlob(digest, { size, contentType });
    this.grant(repository, digest);
    this.#manifests.set(digest, true);
    const targets = [
      ...links.manifests.map((target) => ({ ...target, kind: 'manifest' })),
      ...links.blobs.map((target) => ({ ...target, kind: 'blob' })),
    ];
    for (const target of targets) this.#grants.set(`${repository} ${target.digest}`, target.size);
    this.#write(() => {
      const { subject, artifactType, annotations, mediaType } = links;
      this.#run(
        'INSERT OR REPLACE INTO manifests VALUES (?, ?, ?, ?, ?)',
        digest,
        mediaType,
        artifactType ?? null,
        subject?.digest ?? null,
        annotations ? JSON.stringify(annotations) : null,
      );
      const repositoryId = this.#repositoryId(repository);
      for (const target of targets) {
        this.#run('INSERT OR REPLACE INTO links VALUES (?, ?, ?, ?)', digest, target.digest, target.kind, target.size);
        this.#run('INSERT OR REPLACE INTO grants VALUES (?, ?, ?)', repositoryId, target.digest, target.size);
      }
    });
  }

  /** The stored manifests of a repository whose `subject` is a digest. */
  referrers(repository: string, subject: Digest): ReferrerRecord[] {
    const rows = this.#all(
      `SELECT m.digest, m.media_type, m.artifact_type, m.annotations, b.size FROM manifests m
       JOIN blobs b ON b.digest = m.digest JOIN grants g ON g.digest = m.digest
       JOIN repositories r ON r.id = g.repository WHERE m.subject = ? AND r.name = ? ORDER BY m.digest`,
      subject,
      repository,
    );
    return rows.map((row) => ({
      digest: row['digest'] as Digest,
      mediaType: String(row['media_type']),
      size: Number(row['size']),
      artifactType: row['artifact_type'] === null ? undefined : String(row['artifact_type']),
      annotations: row['annotations'] === null ? undefined : JSON.parse(String(row['annotations'])),
    }));
  }

  /** Forgets a blob whose file is gone. */
  forgetBlob(digest: Digest): void {
    this.#blobs.delete(digest);
    this.#write(() => this.#run('DELETE FROM blobs WHERE digest = ?', digest));
  }

  /** Notes that a blob was used; written in batches by {@link flush}. */
  touch(digest: Digest): void {
    this.#used.add(digest);
    if (this.#used.size >= 10_000) this.flush();
  }

  /** Writes what {@link touch} has noted. */
  flush(): void {
    if (this.#used.size === 0) return;
    const used = [...this.#used];
    this.#used.clear();
    const now = this.#now();
    this.#write(() => {
      for (const digest of used) this.#run('UPDATE blobs SET used_at = ? WHERE digest = ?', now, digest);
    });
  }

  [Symbol.dispose](): void {
    this.flush();
    this.#database.close();
  }

  #grant(repository: string, digest: Digest): number | undefined {
    const cacheKey = `${repository} ${digest}`;
    const cached = this.#grants.get(cacheKey);
    if (cached !== undefined) return cached;
    const row = this.#get(
      'SELECT g.size FROM grants g JOIN repositories r ON r.id = g.repository WHERE r.name = ? AND g.digest = ?',
      repository,
      digest,
    );
    if (!row) return undefined;
    const size = Number(row['size']);
    this.#grants.set(cacheKey, size);
    return size;
  }

  #repositoryId(name: string): number {
    const cached = this.#repositoryIds.get(name);
    if (cached !== undefined) return cached;
    this.#run('INSERT OR IGNORE INTO repositories (name) VALUES (?)', name);
    const id = Number(this.#get('SELECT id FROM repositories WHERE name = ?', name)?.['id']);
    this.#repositoryIds.set(name, id);
    return id;
  }

  #write(work: () => void): void {
    try {
      this.#database.exec('BEGIN IMMEDIATE');
      try {
        work();
        this.#database.exec('COMMIT');
      } catch (error) {
        // A full disk may have rolled the transaction back already, and an id given inside it is gone.
        this.#repositoryIds.clear();
        if (this.#database.isTransaction) this.#database.exec('ROLLBACK');
        throw error;
      }
    } catch (error) {
      this.#onFault(error);
    }
  }

  #get(sql: string, ...values: SQLInputValue[]): Record<string, SQLOutputValue> | undefined {
    try {
      return this.#statement(sql).get(...values);
    } catch (error) {
      this.#onFault(error);
      return undefined;
    }
  }

  #all(sql: string, ...values: SQLInputValue[]): Record<string, SQLOutputValue>[] {
    try {
      return this.#statement(sql).all(...values);
    } catch (error) {
      this.#onFault(error);
      return [];
    }
  }

  #run(sql: string, ...values: SQLInputValue[]): void {
    this.#statement(sql).run(...values);
  }

  #statement(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (!statement) {
      statement = this.#database.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }
}

function tagCacheKey(key: TagKey): string {
  return `${key.repository} ${key.tag} ${key.variant}`;
}

function openDatabase(path: string): DatabaseSync {
  const database = new DatabaseSync(path);
  try {
    // Exclusive locking before WAL: no shared-memory file, and a second owner is refused.
    database.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;');
    database.exec('BEGIN EXCLUSIVE; COMMIT;');
    const version = Number(database.prepare('PRAGMA user_version').get()?.['user_version']);
    if (version !== 0 && version !== catalogVersion) throw new CatalogVersionError(version);
    database.exec(catalogSchema);
    database.exec(`PRAGMA user_version = ${catalogVersion}`);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

class CatalogVersionError extends Error {
  constructor(version: number) {
    super(`the catalog has version ${version}, this program reads version ${catalogVersion}`);
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
  return error instanceof CatalogVersionError || sqliteCode(error) === 11 || sqliteCode(error) === 26;
}
