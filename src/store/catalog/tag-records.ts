import { LRUCache } from 'lru-cache';
import type { Digest } from '../../oci/digest.ts';
import { type Changes, tagFact } from '../../oci/facts.ts';
import { upTo } from '../../oci/lru-bound.ts';
import { subjectOfTag } from '../../oci/subject-of-tag.ts';
import type { Database } from './database.ts';
import type { GrantRecords } from './grant-records.ts';
import type { ImageGraph } from './image-graph.ts';
import type { NameJournal } from './name-journal.ts';
import type { CatalogNews } from './news.ts';
import type { PinRecords } from './pin-records.ts';
import { digestIn, number, optionalText, type Row, text } from './row.ts';

/** Precision of the time of confirmation in the journal of names. */
const confirmationEveryMs = 10 * 60_000;

/** A tag as its upstream last confirmed it. */
export interface TagRecord {
  readonly digest: Digest;
  readonly contentType: string;
  /** Bytes of the manifest. */
  readonly size: number;
  /** When the upstream last confirmed it: milliseconds since 1970; 0: it has since said that the tag is gone. */
  readonly checkedAtMs: number;
  /** How this mirror's own upstream was asked when it last confirmed that the tag may be read; absent: unknown. */
  readonly access?: string | undefined;
}

/** A tag: `repository` is the cache's key for it (`docker.io/library/nginx`), `variant` '' or an `Accept` list. */
export interface TagKey {
  readonly repository: string;
  readonly tag: string;
  readonly variant: string;
}

export interface TagRecordsOptions {
  readonly journal: NameJournal;
  readonly grants: GrantRecords;
  readonly graph: ImageGraph;
  readonly pins: PinRecords;
  readonly changes: Changes;
  readonly now: () => number;
  readonly onNews: ((news: CatalogNews) => void) | undefined;
}

/** The records of tags, as upstreams last confirmed them. Reads come from bounded memory first. */
export class TagRecords {
  readonly #database: Database;
  readonly #options: TagRecordsOptions;
  readonly #tags = new LRUCache<string, TagRecord>(upTo(20_000));

  constructor(database: Database, options: TagRecordsOptions) {
    this.#database = database;
    this.#options = options;
  }

  /** The record of a tag. */
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
    const record = { ...tagIn(row), access: optionalText(row, 'access') };
    this.#tags.set(cacheKey, record);
    return record;
  }

  /** The tags known of a repository, in lexical order. */
  names(repository: string): string[] {
    const rows = this.#database.all(
      `SELECT DISTINCT t.tag FROM tags t JOIN repositories r ON r.id = t.repository WHERE r.name = ? ORDER BY t.tag`,
      repository,
    );
    return rows.map((row) => text(row, 'tag'));
  }

  /** The tags of a repository whose manifest is stored, in lexical order. */
  storedNames(repository: string): string[] {
    const rows = this.#database.all(
      `SELECT DISTINCT t.tag FROM tags t JOIN repositories r ON r.id = t.repository JOIN blobs b ON b.digest = t.digest
       WHERE r.name = ? ORDER BY t.tag`,
      repository,
    );
    return rows.map((row) => text(row, 'tag'));
  }

  /** The tags of a repository whose manifest is stored and that the upstream has confirmed since a time, in byte order. */
  confirmedNames(repository: string, sinceMs: number): string[] {
    const rows = this.#database.all(
      `SELECT DISTINCT t.tag FROM tags t JOIN repositories r ON r.id = t.repository JOIN blobs b ON b.digest = t.digest
       WHERE r.name = ? AND t.checked_at >= ? AND t.checked_at > 0 ORDER BY t.tag`,
      repository,
      sinceMs,
    );
    return rows.map((row) => text(row, 'tag'));
  }

  /** Records what a tag means now, and that its repository may read that. */
  record(key: TagKey, record: TagRecord): void {
    const before = this.get(key);
    if (before === undefined || isNews(before, record)) this.#options.journal.add({ kind: 'tag', ...key, ...record });
    this.restore(key, record);
    if (key.variant !== '' || before?.digest === record.digest) return;
    const { repository, tag } = key;
    this.#options.onNews?.({ kind: 'tag', repository, tag, digest: record.digest, before: before?.digest });
  }

  /** As {@link record}, for a line of the journal. */
  restore(key: TagKey, record: TagRecord): void {
    const { grants, graph, pins } = this.#options;
    const before = this.get(key);
    this.#write(key, record);
    grants.add(key.repository, record.digest);
    if (before?.digest === record.digest) return;
    this.#database.write(() => {
      if (subjectOfTag(key.tag) !== undefined) graph.warm(record.digest, key.repository);
      pins.tagMoved(key.repository, key.tag, before?.digest);
    });
  }

  /** The upstream says that a tag is gone: forgets its meaning. A pinned tag no longer counts as confirmed. */
  forget(key: TagKey): void {
    const { journal, pins, now, onNews } = this.#options;
    const before = this.get(key);
    if (before?.checkedAtMs === 0) return;
    journal.add({ kind: 'tag gone', ...key, atMs: now() });
    const { repository, tag } = key;
    if (before && key.variant === '') onNews?.({ kind: 'tag gone', repository, tag, before: before.digest });
    if (before && pins.isPinned(key.repository, key.tag)) return this.record(key, { ...before, checkedAtMs: 0 });
    this.erase(key);
    this.#database.write(() => pins.tagMoved(key.repository, key.tag, before?.digest));
  }

  /** Forgets the meaning of a tag, but nothing that follows from it. */
  erase(key: TagKey): void {
    this.drop(key);
    this.#database.write(() => {
      this.#database.run(
        'DELETE FROM tags WHERE repository = ? AND tag = ? AND variant = ?',
        this.#database.repositoryId(key.repository),
        key.tag,
        key.variant,
      );
    });
  }

  /** Forgets a tag with all its variants. Call it within a write of the database. @returns the variants */
  eraseAll(repository: string, tag: string): string[] {
    const rows = this.#database.all(
      'SELECT t.variant FROM tags t JOIN repositories r ON r.id = t.repository WHERE r.name = ? AND t.tag = ?',
      repository,
      tag,
    );
    const variants = rows.map((row) => text(row, 'variant'));
    for (const variant of variants) this.drop({ repository, tag, variant });
    this.#database.run(
      'DELETE FROM tags WHERE repository = ? AND tag = ?',
      this.#database.repositoryId(repository),
      tag,
    );
    return variants;
  }

  /** The tags of a manifest. */
  standingFor(manifest: Digest): TagKey[] {
    const rows = this.#database.all(
      'SELECT r.name, t.tag, t.variant FROM tags t JOIN repositories r ON r.id = t.repository WHERE t.digest = ?',
      manifest,
    );
    return rows.map((row) => ({
      repository: text(row, 'name'),
      tag: text(row, 'tag'),
      variant: text(row, 'variant'),
    }));
  }

  /** Forgets in memory what is no longer in the tables. */
  drop(key: TagKey): void {
    this.#options.changes.changed(tagFact(key.repository, key.tag));
    this.#tags.delete(tagCacheKey(key));
  }

  /** Forgets everything in memory, because the tables have been emptied. */
  dropAll(): void {
    this.#tags.clear();
  }

  #write(key: TagKey, record: TagRecord): void {
    this.#options.changes.changed(tagFact(key.repository, key.tag));
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
}

/** The content of a row in the table of tags. */
export function tagIn(row: Row): TagRecord {
  return {
    digest: digestIn(row),
    contentType: text(row, 'content_type'),
    size: number(row, 'size'),
    checkedAtMs: number(row, 'checked_at'),
  };
}

function tagCacheKey(key: TagKey): string {
  return `${key.repository} ${key.tag} ${key.variant}`;
}

/** Whether a tag deserves a line in the journal of names: a repeated confirmation does once in a while. */
function isNews(before: TagRecord, { digest, contentType, checkedAtMs }: TagRecord): boolean {
  if (before.digest !== digest || before.contentType !== contentType) return true;
  return Math.floor(before.checkedAtMs / confirmationEveryMs) !== Math.floor(checkedAtMs / confirmationEveryMs);
}
