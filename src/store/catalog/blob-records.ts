import { LRUCache } from 'lru-cache';
import type { Digest } from '../../oci/digest.ts';
import { blobFact, type Changes, nothingRemoved } from '../../oci/facts.ts';
import { upTo } from '../../oci/lru-bound.ts';
import { octetStream } from '../../oci/media-types.ts';
import { soleUpstreamOf } from './catalog-schema.ts';
import type { Database } from './database.ts';
import type { NameJournal } from './name-journal.ts';
import type { PinRecords } from './pin-records.ts';
import { digestIn, number, optionalNumber, text } from './row.ts';
import type { UseRecords } from './use-records.ts';

/** The record of a stored blob. */
export interface BlobRecord {
  readonly size: number;
  /** The exact `Content-Type` it came with. */
  readonly contentType: string;
  /** The time of its file when its content was last known to be right, in milliseconds; `undefined`: it never was. */
  readonly modifiedAtMs?: number | undefined;
  /** Another replica has it kept here: its image may be known there alone. */
  readonly isForOthers?: boolean;
}

/** A blob that has just been stored. */
export interface NewBlob extends BlobRecord {
  /** The upstream that has given it; absent: not known, except by the rights that there are. */
  readonly shownBy?: string | undefined;
}

interface KnownBlob {
  readonly record: BlobRecord;
  /** The upstreams that have shown that they have these bytes. */
  readonly shownBy: readonly string[];
}

/** A file under `blobs/` that the catalog did not know. */
export interface FoundBlob {
  readonly size: number;
  /** As of {@link BlobRecord}. */
  readonly modifiedAtMs?: number;
  readonly usedAtMs: number;
}

/** Totals of what is stored, in bytes but for the first. */
export interface Usage {
  /** How many blobs, manifests among them. */
  readonly blobs: number;
  readonly bytes: number;
  readonly pinnedBytes: number;
  /** Of blobs that no image needs: no manifest that is known names them. */
  readonly unneededBytes: number;
}

/** Whether a manifest is known that needs a blob, or that is it: what the row of a new blob says. */
const needed = `(EXISTS (SELECT 1 FROM links WHERE target = ?1) OR EXISTS (SELECT 1 FROM manifests m WHERE m.digest = ?1))`;

export interface BlobRecordsOptions {
  readonly journal: NameJournal;
  readonly pins: PinRecords;
  readonly uses: UseRecords;
  readonly changes: Changes;
  readonly now: () => number;
}

/** The blobs on this disk, manifests among them. Reads come from bounded memory first. */
export class BlobRecords {
  readonly #database: Database;
  readonly #options: BlobRecordsOptions;
  readonly #blobs = new LRUCache<Digest, KnownBlob>(upTo(50_000));
  /** Of what is not there, what was asked for last: for one blob that comes here it is asked several times. */
  readonly #missing = new LRUCache<Digest, true>({ max: 500 });
  /** As it was read last: for one blob that comes here it is asked for several times. */
  #usage: { readonly usage: Usage; readonly changes: number } | undefined;

  constructor(database: Database, options: BlobRecordsOptions) {
    this.#database = database;
    this.#options = options;
  }

  /** The record of a stored blob or manifest. */
  get(digest: Digest): BlobRecord | undefined {
    return this.#known(digest)?.record;
  }

  /** Whether a blob is known to be stored; unlike {@link get} it leaves the memory to what is in use. */
  has(digest: Digest): boolean {
    if (this.#missing.has(digest)) return false;
    return this.#database.get('SELECT 1 FROM blobs WHERE digest = ?', digest) !== undefined;
  }

  /** Blobs that are known to be stored, in the order of their digests: those after one, up to a number. */
  page({ after, limit }: { readonly after: string; readonly limit: number }): { digest: Digest; size: number }[] {
    const rows = this.#database.all(
      'SELECT digest, size FROM blobs WHERE digest > ? ORDER BY digest LIMIT ?',
      after,
      limit,
    );
    return rows.map((row) => ({ digest: digestIn(row), size: number(row, 'size') }));
  }

  /** How much is known to be stored. */
  usage(): Usage {
    const { changes } = this.#database;
    if (this.#usage?.changes === changes) return this.#usage.usage;
    const row = this.#database.get('SELECT blobs, bytes, pinned_bytes, unneeded_bytes FROM totals');
    const usage: Usage = {
      blobs: number(row, 'blobs'),
      bytes: number(row, 'bytes'),
      pinnedBytes: number(row, 'pinned_bytes'),
      unneededBytes: number(row, 'unneeded_bytes'),
    };
    if (row !== undefined) this.#usage = { usage, changes };
    return usage;
  }

  /** Records a blob that has just been stored. */
  record(digest: Digest, blob: NewBlob): void {
    const { contentType } = blob;
    if (contentType !== octetStream) this.#options.journal.add({ kind: 'type', digest, contentType });
    this.add(digest, blob);
  }

  /** As {@link record}, of a blob whose type the journal need not tell. @param blob `usedAtMs`: default now */
  add(digest: Digest, blob: NewBlob & { readonly usedAtMs?: number | undefined }): void {
    const { uses, pins, now } = this.#options;
    const { size, contentType, modifiedAtMs, usedAtMs = now() } = blob;
    const before = this.#known(digest)?.shownBy;
    const given = blob.shownBy === undefined ? (before ?? this.#rememberedShown(digest)) : [blob.shownBy];
    const shownBy = [...new Set([...(before ?? []), ...given])];
    if (shownBy.length > 1) this.#journalShown(digest, shownBy);
    this.#options.changes.changed(blobFact(digest));
    this.#blobs.set(digest, { record: { size, contentType, modifiedAtMs }, shownBy });
    this.#missing.delete(digest);
    this.#database.write(() => {
      this.#database.run(
        `INSERT INTO blobs (digest, size, content_type, stored_at, used_at, heat, recent, modified_at, needed, shown)
         VALUES (?1, ?2, ?3, ?4, ?4, ?6, 1, ?5, ?7 OR ${needed}, ?8)
         ON CONFLICT DO UPDATE SET size = excluded.size, content_type = excluded.content_type, used_at = excluded.used_at,
           heat = heat_after(heat, 1, ?4), recent = 1, modified_at = excluded.modified_at, shown = excluded.shown`,
        digest,
        size,
        contentType,
        usedAtMs,
        modifiedAtMs ?? null,
        uses.firstHeat(digest, usedAtMs),
        blob.isForOthers === true ? 1 : 0,
        shownBy.join('\n'),
      );
      uses.settleSoon();
      pins.stored(digest);
    });
  }

  /** Records a blob that was found on disk, with the type that is remembered of it; what is known by now stays. */
  adopt(digest: Digest, { size, modifiedAtMs, usedAtMs }: FoundBlob): void {
    const { uses, pins } = this.#options;
    this.#missing.delete(digest);
    this.#database.write(() => {
      this.#database.run(
        `INSERT OR IGNORE INTO blobs (digest, size, content_type, stored_at, used_at, heat, modified_at, needed, shown)
         VALUES (?1, ?2, COALESCE((SELECT content_type FROM remembered WHERE digest = ?1), ?3), ?4, ?4, ?6, ?5, ${needed}, ?7)`,
        digest,
        size,
        octetStream,
        usedAtMs,
        modifiedAtMs ?? null,
        uses.firstHeat(digest, usedAtMs),
        this.#rememberedShown(digest).join('\n'),
      );
      pins.stored(digest);
    });
  }

  /** Whether an upstream has shown that it has the bytes of a stored blob. */
  isShown(digest: Digest, upstream: string): boolean {
    return this.#known(digest)?.shownBy.includes(upstream) ?? false;
  }

  /** An upstream has shown that it has the bytes of a stored blob. */
  noteShown(digest: Digest, upstream: string): void {
    const known = this.#known(digest);
    if (known === undefined || known.shownBy.includes(upstream)) return;
    const shownBy = [...known.shownBy, upstream];
    if (shownBy.length > 1) this.#journalShown(digest, shownBy);
    this.#blobs.set(digest, { ...known, shownBy });
    this.#database.write(() =>
      this.#database.run('UPDATE blobs SET shown = ? WHERE digest = ?', shownBy.join('\n'), digest),
    );
  }

  /** An upstream claims a blob: whether others have shown it can no longer be told from the rights alone. */
  noteClaimed(digest: Digest, upstream: string): void {
    const shownBy = this.#known(digest)?.shownBy ?? [];
    if (shownBy.length > 0 && !shownBy.includes(upstream)) this.#journalShown(digest, shownBy);
  }

  /** Takes back what the journal says. To be called within a write of the database. */
  restoreShown(digest: Digest, upstream: string): void {
    if (this.has(digest)) this.noteShown(digest, upstream);
    else this.#database.run('INSERT OR IGNORE INTO remembered_shown VALUES (?, ?)', digest, upstream);
  }

  /** Everything has been looked at. */
  forgetRememberedShown(): void {
    this.#database.run('DELETE FROM remembered_shown');
  }

  #known(digest: Digest): KnownBlob | undefined {
    const cached = this.#blobs.get(digest);
    if (cached !== undefined) return cached;
    if (this.#missing.has(digest)) return undefined;
    const { faults } = this.#database;
    const row = this.#database.get('SELECT size, content_type, modified_at, shown FROM blobs WHERE digest = ?', digest);
    if (!row) {
      if (this.#database.faults === faults) this.#missing.set(digest, true);
      return undefined;
    }
    const known: KnownBlob = {
      record: {
        size: number(row, 'size'),
        contentType: text(row, 'content_type'),
        modifiedAtMs: optionalNumber(row, 'modified_at'),
      },
      shownBy: lines(text(row, 'shown')),
    };
    this.#blobs.set(digest, known);
    return known;
  }

  /** The record of a blob without a row, from the journal, else from its rights. */
  #rememberedShown(digest: Digest): string[] {
    const rows = this.#database.all('SELECT upstream FROM remembered_shown WHERE digest = ?', digest);
    if (rows.length > 0) return rows.map((row) => text(row, 'upstream'));
    const sole = this.#database.get(`SELECT ${soleUpstreamOf('?1')} AS sole`, digest);
    return sole ? lines(text(sole, 'sole')) : [];
  }

  #journalShown(digest: Digest, shownBy: readonly string[]): void {
    for (const upstream of shownBy) this.#options.journal.add({ kind: 'shown', digest, upstream });
  }

  /** Notes of which time a file is whose content has been found right. */
  noteRight(digest: Digest, { size, modifiedAtMs }: { size: number; modifiedAtMs: number }): void {
    const known = this.#blobs.peek(digest);
    this.#options.changes.changed(blobFact(digest));
    if (known) this.#blobs.set(digest, { ...known, record: { ...known.record, size, modifiedAtMs } });
    this.#database.write(() =>
      this.#database.run(
        'UPDATE blobs SET size = ?1, modified_at = ?2 WHERE digest = ?3 AND (size <> ?1 OR modified_at IS NOT ?2)',
        size,
        modifiedAtMs,
        digest,
      ),
    );
  }

  /** Forgets a blob whose file is gone. */
  forget(digest: Digest): void {
    this.drop(digest);
    this.#database.write(() => this.#database.run('DELETE FROM blobs WHERE digest = ?', digest));
  }

  /** Forgets in memory what the tables do not have any more. */
  drop(digest: Digest): void {
    this.#options.changes.changed(blobFact(digest));
    this.#options.changes.changed(nothingRemoved);
    this.#blobs.delete(digest);
  }
}

function lines(joined: string): string[] {
  return joined === '' ? [] : joined.split('\n');
}
