import { LRUCache } from 'lru-cache';
import type { Digest } from '../../oci/digest.ts';
import { subjectOfTag } from '../../oci/subject-of-tag.ts';
import type { Database } from './database.ts';

/** How precisely the journal of names knows when a tag was last confirmed. */
const confirmationEveryMs = 10 * 60_000;

/** What a tag meant when the upstream was last asked. */
export interface TagRecord {
  readonly digest: Digest;
  readonly contentType: string;
  /** Bytes of the manifest. */
  readonly size: number;
  /** When the upstream last confirmed it: milliseconds since 1970; 0: it has said since that the tag is gone. */
  readonly checkedAtMs: number;
  /** How this mirror's own upstream was asked when it last confirmed that the tag may be read; absent: not known. */
  readonly access?: string | undefined;
}

/** Which tag: `repository` is the cache's key for it (`docker.io/library/nginx`), `variant` '' or an `Accept` list. */
export interface TagKey {
  readonly repository: string;
  readonly tag: string;
  readonly variant: string;
}

/** What tags meant when the upstream was last asked. Reads come from bounded memory first. */
export class TagRecords {
  readonly #database: Database;
  readonly #tags = new LRUCache<string, TagRecord>({ max: 20_000 });

  constructor(database: Database) {
    this.#database = database;
  }

  /** What a tag meant when it was last checked. */
  get(key: TagKey): TagRecord | undefined {
    const cacheKey = tagCacheKey(key);
    const cached = this.#tags.get(cacheKey);
    if (cached) return cached;
    const row = this.#database.get(
      `SELECT t.digest, t.content_type, t.size, t.checked_at, t.access FROM tags t JOIN repositories r ON r.id = t.repository
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
      access: row['access'] === null ? undefined : String(row['access']),
    };
    this.#tags.set(cacheKey, record);
    return record;
  }

  /** Notes what a tag means now. */
  record(key: TagKey, record: TagRecord): void {
    this.#tags.set(tagCacheKey(key), record);
    this.#database.write(() => {
      this.#database.run(
        `INSERT INTO tags VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET digest = excluded.digest,
         content_type = excluded.content_type, size = excluded.size, checked_at = excluded.checked_at,
         access = excluded.access`,
        this.#database.repositoryId(key.repository),
        key.tag,
        key.variant,
        record.digest,
        record.contentType,
        record.size,
        record.checkedAtMs,
        subjectOfTag(key.tag) ?? null,
        record.access ?? null,
      );
    });
  }

  /** Forgets what a tag meant: the upstream has said that it is gone. */
  forget(key: TagKey): void {
    this.#tags.delete(tagCacheKey(key));
    this.#database.write(() => {
      this.#database.run(
        'DELETE FROM tags WHERE repository = ? AND tag = ? AND variant = ?',
        this.#database.repositoryId(key.repository),
        key.tag,
        key.variant,
      );
    });
  }

  /** Forgets what is not in the tables: they have been emptied. */
  forgetMemory(): void {
    this.#tags.clear();
  }

  /** Forgets a tag, whatever it meant to whom. To be called within a write of the database. @returns the variants */
  forgetAll(repository: string, tag: string): string[] {
    const rows = this.#database.all(
      'SELECT t.variant FROM tags t JOIN repositories r ON r.id = t.repository WHERE r.name = ? AND t.tag = ?',
      repository,
      tag,
    );
    const variants = rows.map((row) => String(row['variant']));
    for (const variant of variants) this.#tags.delete(tagCacheKey({ repository, tag, variant }));
    this.#database.run(
      'DELETE FROM tags WHERE repository = ? AND tag = ?',
      this.#database.repositoryId(repository),
      tag,
    );
    return variants;
  }

  /** Forgets in memory what the tables do not have any more. */
  drop(key: TagKey): void {
    this.#tags.delete(tagCacheKey(key));
  }

  /** The tags known of a repository, in lexical order. */
  names(repository: string): string[] {
    const rows = this.#database.all(
      `SELECT DISTINCT t.tag FROM tags t JOIN repositories r ON r.id = t.repository WHERE r.name = ? ORDER BY t.tag`,
      repository,
    );
    return rows.map((row) => String(row['tag']));
  }
}

function tagCacheKey(key: TagKey): string {
  return `${key.repository} ${key.tag} ${key.variant}`;
}

/** Whether a tag is worth a line in the journal of names: that it was confirmed again is, once in a while. */
export function isNews(before: TagRecord, { digest, contentType, checkedAtMs }: TagRecord): boolean {
  if (before.digest !== digest || before.contentType !== contentType) return true;
  return Math.floor(before.checkedAtMs / confirmationEveryMs) !== Math.floor(checkedAtMs / confirmationEveryMs);
}
