import type { Digest } from '../../oci/digest.ts';
import { octetStream } from '../../oci/media-types.ts';
import type { BlobRecords } from './blob-records.ts';
import { soleUpstreamOf } from './catalog-schema.ts';
import type { Database } from './database.ts';
import type { GrantRecords } from './grant-records.ts';
import { JournalMark } from './journal-mark.ts';
import type { NameEntry } from './name-entry.ts';
import type { NameJournal } from './name-journal.ts';
import type { PinRecords } from './pin-records.ts';
import { digestIn, isSet, number, type Row, text } from './row.ts';
import { type TagKey, type TagRecords, tagIn } from './tag-records.ts';

/** The facts of a lost catalog about a manifest that has not been read again. */
export interface RememberedManifest {
  readonly digest: Digest;
  readonly repository: string;
  readonly contentType: string;
}

export interface NameRecordsOptions {
  readonly journal: NameJournal;
  readonly tags: TagRecords;
  readonly grants: GrantRecords;
  readonly blobs: BlobRecords;
  readonly pins: PinRecords;
  readonly now: () => number;
}

/** Rows that are read in one go: some milliseconds, for which every request waits. */
const pageRows = 40;
/** Obsolete lines allowed before the journal is rewritten, however little it holds. */
const slackBytes = 1024 * 1024;
/** Under which the length of the journal is noted when it holds nothing that is out of date. */
export const lengthNote = 'names bytes';

/** The facts of the catalog that the blobs do not say. The journal of names has them too, and a lost catalog gets them from there. */
export class NameRecords {
  /** How much of the journal the catalog contains. */
  readonly mark: JournalMark;
  readonly #database: Database;
  readonly #journal: NameJournal;
  readonly #options: NameRecordsOptions;

  constructor(database: Database, options: NameRecordsOptions) {
    this.#database = database;
    this.#journal = options.journal;
    this.mark = new JournalMark(database, options.journal);
    this.#options = options;
  }

  /** Whether the journal holds more that is out of date than not, or lacks something. */
  get isJournalWorn(): boolean {
    if (!this.#journal.isComplete || this.mark.isJournalOlder) return true;
    // The next start reads from it what the catalog lacks.
    if (this.mark.isCatalogBehind) return false;
    const length = this.#database.get('SELECT value FROM notes WHERE name = ?', lengthNote)?.['value'];
    // It only grows: one that is shorter than it was has been cut or removed.
    const known = Number(length ?? 0);
    return length === undefined || this.#journal.bytes < known || this.#journal.bytes > 2 * known + slackBytes;
  }

  /**
   * Rewrites the journal from the catalog, which must be whole.
   * @param between waits after each part @throws what it throws; the journal is as it was then
   */
  async rewriteJournal(between: () => Promise<void>): Promise<void> {
    const after = this.mark.begunAtMs;
    if (await this.#journal.rewrite(this.#pages(), between, { after })) this.noteWhole();
  }

  /** The journal holds what the catalog knows and nothing that is out of date. */
  noteWhole(): void {
    const length = String(this.#journal.bytes);
    this.#database.write(() => this.#database.run('INSERT OR REPLACE INTO notes VALUES (?, ?)', lengthNote, length));
    this.mark.note();
  }

  /** Length of the journal. */
  get journalBytes(): number {
    return this.#journal.bytes;
  }

  /** Entries of the journal from a position on. */
  journal(from: number): ReturnType<NameJournal['read']> {
    return this.#journal.read(from);
  }

  /** Takes back what the journal says; what is known by now stays. To be called within a write of the database. */
  restore(entry: NameEntry): void {
    const { tags, grants, blobs, pins } = this.#options;
    switch (entry.kind) {
      case 'manifest':
        grants.restore(entry.repository, entry.digest, -1);
        return this.#remember(entry.digest, entry.repository, entry.contentType);
      case 'type':
        return this.#remember(entry.digest, '', entry.contentType);
      case 'grant':
        return grants.restore(entry.repository, entry.digest, entry.size);
      case 'shown':
        return blobs.restoreShown(entry.digest, entry.upstream);
      case 'right gone':
        grants.revoke(entry.repository, entry.digest);
        return this.#database.run(
          'DELETE FROM remembered WHERE digest = ? AND repository = ?',
          entry.digest,
          entry.repository,
        );
      case 'tag': {
        const { repository, tag, variant, digest, contentType, size, checkedAtMs } = entry;
        if (this.#knownAtMs(entry) >= checkedAtMs) return;
        return tags.restore({ repository, tag, variant }, { digest, contentType, size, checkedAtMs });
      }
      case 'tag gone': {
        if (this.#knownAtMs(entry) <= entry.atMs) tags.erase(entry);
        return;
      }
      case 'pin':
        return pins.restore({ repository: entry.repository, reference: entry.reference, pinnedAtMs: entry.atMs });
      case 'unpin':
        pins.restoreRemoval(entry.repository, entry.reference);
        return;
      default:
        entry satisfies never;
    }
  }

  /** The repositories that have a manifest which has not been read again, with its type in each. */
  remembered(digest: Digest): RememberedManifest[] {
    return this.#database
      .all(`SELECT * FROM remembered WHERE digest = ? AND repository <> ''`, digest)
      .map((row) => rememberedOf(row));
  }

  /** Manifests that have not been read again, in the order of their digests: those after one, up to a number. */
  rememberedPage({ after, limit }: { readonly after: string; readonly limit: number }): Digest[] {
    return this.#database
      .all(
        `SELECT DISTINCT digest FROM remembered WHERE digest > ? AND repository <> '' ORDER BY digest LIMIT ?`,
        after,
        limit,
      )
      .map((row) => digestIn(row));
  }

  /** A manifest has been read again, or is gone. */
  forgetRemembered(digest: Digest): void {
    this.#database.write(() => this.#database.run(`DELETE FROM remembered WHERE digest = ?`, digest));
  }

  /** When a tag was confirmed that is known by now. Later than now means long ago: the clock was ahead then. */
  #knownAtMs(key: TagKey): number {
    const { tags, now } = this.#options;
    const checkedAtMs = tags.get(key)?.checkedAtMs ?? Number.NEGATIVE_INFINITY;
    return checkedAtMs > now() ? Number.NEGATIVE_INFINITY : checkedAtMs;
  }

  #remember(digest: Digest, repository: string, contentType: string): void {
    this.#database.run('INSERT OR REPLACE INTO remembered VALUES (?, ?, ?)', digest, repository, contentType);
  }

  /** Everything has been looked at. */
  forgetAllRemembered(): void {
    this.#database.write(() => {
      this.#database.run('DELETE FROM remembered');
      this.#options.blobs.forgetRememberedShown();
    });
  }

  /** The content of a new journal, each page as true as the moment it is taken. @throws Error where the catalog cannot be read */
  *#pages(): Generator<NameEntry[]> {
    const faults = this.#database.faults;
    const sources = [this.#pins(), this.#tags(), this.#types(), this.#shown(), this.#rights()];
    for (const source of sources) {
      for (const page of source) {
        if (this.#database.faults !== faults) throw new Error('the catalog could not be read to its end');
        yield page;
      }
    }
    if (this.#database.faults !== faults) throw new Error('the catalog could not be read to its end');
  }

  *#pins(): Generator<NameEntry[]> {
    yield this.#database.all('SELECT * FROM pins').map((row) => ({
      kind: 'pin',
      repository: text(row, 'repository'),
      reference: text(row, 'reference'),
      atMs: number(row, 'pinned_at'),
    }));
  }

  *#tags(): Generator<NameEntry[]> {
    let last: [number, string, string] = [-1, '', ''];
    while (true) {
      const rows = this.#database.all(
        `SELECT t.*, r.name FROM tags t JOIN repositories r ON r.id = t.repository
         WHERE (t.repository, t.tag, t.variant) > (?, ?, ?) ORDER BY t.repository, t.tag, t.variant LIMIT ?`,
        ...last,
        pageRows,
      );
      yield rows.map((row) => ({
        kind: 'tag',
        repository: text(row, 'name'),
        tag: text(row, 'tag'),
        variant: text(row, 'variant'),
        ...tagIn(row),
      }));
      if (rows.length < pageRows) return;
      const end = rows.at(-1)!;
      last = [number(end, 'repository'), text(end, 'tag'), text(end, 'variant')];
    }
  }

  /** The types of blobs that came with an unusual one. */
  *#types(): Generator<NameEntry[]> {
    let last = '';
    while (true) {
      const rows = this.#database.all(
        `SELECT b.digest, b.content_type, m.digest IS NOT NULL AS is_manifest
         FROM blobs b LEFT JOIN manifests m ON m.digest = b.digest WHERE b.digest > ? ORDER BY b.digest LIMIT ?`,
        last,
        10 * pageRows,
      );
      yield rows
        .filter((row) => row['content_type'] !== octetStream && !isSet(row, 'is_manifest'))
        .map((row) => ({ kind: 'type', digest: digestIn(row), contentType: text(row, 'content_type') }));
      if (rows.length < 10 * pageRows) return;
      const end = rows.at(-1)!;
      last = digestIn(end);
    }
  }

  /** The upstreams that have shown a blob, where its rights do not tell. */
  *#shown(): Generator<NameEntry[]> {
    let last = '';
    while (true) {
      const rows = this.#database.all(
        `SELECT b.digest, b.shown, b.shown <> ${soleUpstreamOf('b.digest')} AS differs
         FROM blobs b WHERE b.digest > ? ORDER BY b.digest LIMIT ?`,
        last,
        pageRows,
      );
      yield rows
        .filter((row) => isSet(row, 'differs') && text(row, 'shown') !== '')
        .flatMap((row) =>
          text(row, 'shown')
            .split('\n')
            .map((upstream): NameEntry => ({ kind: 'shown', digest: digestIn(row), upstream })),
        );
      if (rows.length < pageRows) return;
      const end = rows.at(-1)!;
      last = digestIn(end);
    }
  }

  /**
   * The rights: a manifest stands for those that it gives. It does not, where its repository may read the manifest and
   * not all that it names; and what is not named by a manifest that is here needs an entry of its own.
   */
  *#rights(): Generator<NameEntry[]> {
    let last: [number, string] = [-1, ''];
    while (true) {
      const rows = this.#database.all(
        `SELECT g.repository, g.digest, g.size, r.name, b.content_type,
           ${givesItsRights('g.digest', 'g.repository')} AS gives,
           EXISTS (SELECT 1 FROM links l JOIN grants p ON p.digest = l.manifest AND p.repository = g.repository
             WHERE l.target = g.digest AND l.kind <> 'elsewhere' AND ${givesItsRights('l.manifest', 'g.repository')}) AS given
         FROM grants g JOIN repositories r ON r.id = g.repository LEFT JOIN blobs b ON b.digest = g.digest
         WHERE (g.repository, g.digest) > (?, ?) ORDER BY g.repository, g.digest LIMIT ?`,
        ...last,
        pageRows,
      );
      yield rows.flatMap((row): NameEntry[] => {
        const named = { repository: text(row, 'name'), digest: digestIn(row) };
        if (isSet(row, 'gives')) return [{ kind: 'manifest', ...named, contentType: text(row, 'content_type') }];
        return isSet(row, 'given') ? [] : [{ kind: 'grant', ...named, size: number(row, 'size') }];
      });
      if (rows.length < pageRows) return;
      const end = rows.at(-1)!;
      last = [number(end, 'repository'), digestIn(end)];
    }
  }
}

/** Whether a digest is a manifest that is stored, of which a repository may read all that it names. */
function givesItsRights(digest: string, repository: string): string {
  return `(EXISTS (SELECT 1 FROM manifests m JOIN blobs s ON s.digest = m.digest WHERE m.digest = ${digest})
    AND NOT EXISTS (SELECT 1 FROM links o WHERE o.manifest = ${digest} AND o.kind <> 'elsewhere' AND NOT EXISTS
      (SELECT 1 FROM grants x WHERE x.repository = ${repository} AND x.digest = o.target)))`;
}

function rememberedOf(row: Row): RememberedManifest {
  return {
    digest: digestIn(row),
    repository: text(row, 'repository'),
    contentType: text(row, 'content_type'),
  };
}
