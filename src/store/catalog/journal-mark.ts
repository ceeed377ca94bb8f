import type { Database } from './database.ts';
import type { NameJournal } from './name-journal.ts';
import { text } from './row.ts';

/** How much of which journal of names the catalog contains. */
interface Mark {
  readonly begunAtMs: number;
  readonly bytes: number;
  /** Hash of the end of these bytes. */
  readonly tail: string;
}

/** Name of the note with the {@link Mark}. */
const markNote = 'names known';

/**
 * Notes in the catalog how much of the journal of names it contains. A catalog that was restored from a backup is older
 * than the journal beside it: the mark shows that at the start.
 */
export class JournalMark {
  readonly #database: Database;
  readonly #journal: NameJournal;
  #faults: number;
  #isJournalOlder = false;
  #isDue = false;

  constructor(database: Database, journal: NameJournal) {
    this.#database = database;
    this.#journal = journal;
    this.#faults = database.faults;
    journal.onFlushed = () => this.#advance();
    database.beforeCommit = () => this.#write();
  }

  /** Whether the journal lacks what the catalog contains: it was removed, cut, or replaced by an older one. */
  get isJournalOlder(): boolean {
    return this.#isJournalOlder;
  }

  /** Whether a fault may have kept something out of the catalog that the journal contains. */
  get isCatalogBehind(): boolean {
    return this.#database.faults !== this.#faults;
  }

  /** Time in milliseconds since 1970 after which the next journal must begin, for it to count as newer. */
  get begunAtMs(): number {
    return Math.max(this.#journal.begunAtMs, this.#known()?.begunAtMs ?? 0);
  }

  /**
   * Compares the catalog with the journal. Call it once, before anything is added.
   * @returns position in bytes from which the journal has to be read into the catalog; `undefined`: the catalog
   *   contains all of it
   */
  compare(): number | undefined {
    const { begunAtMs, bytes } = this.#journal;
    const known = this.#known();
    if (known === undefined) {
      // Versions before the mark wrote neither of the two: their catalogs are taken as they are.
      if (begunAtMs > 0) return 0;
      this.note();
      return undefined;
    }
    const isSame = begunAtMs === known.begunAtMs;
    const isOlder = begunAtMs > 0 && begunAtMs < known.begunAtMs;
    if (isOlder || (isSame && bytes < known.bytes) || (bytes === 0 && known.bytes > 0)) {
      // An old unpin or removal in it must not undo what came later.
      this.#isJournalOlder = true;
      return undefined;
    }
    if (!isSame || this.#journal.tail(known.bytes) !== known.tail) return 0;
    return bytes > known.bytes ? known.bytes : undefined;
  }

  /** The catalog contains all of the journal, and the journal what the catalog contains. */
  note(): void {
    this.#isJournalOlder = false;
    this.#faults = this.#database.faults;
    this.#advance();
  }

  /** New lines are in the journal; what they say is written to the catalog before the next commit, or has been. */
  #advance(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    // Sees to it that there is a commit.
    this.#database.write(() => undefined);
  }

  /** To be called within a transaction, with nothing that waits to be written. */
  #write(): void {
    if (!this.#isDue) return;
    this.#isDue = false;
    const { begunAtMs, bytes } = this.#journal;
    // The next start reads from the journal whatever a fault has kept out of the catalog.
    if (!this.#journal.isComplete || this.#isJournalOlder || this.isCatalogBehind) return;
    const tail = this.#journal.tail(bytes);
    if (tail === undefined) return;
    const mark: Mark = { begunAtMs, bytes, tail };
    this.#database.run('INSERT OR REPLACE INTO notes VALUES (?, ?)', markNote, JSON.stringify(mark));
  }

  #known(): Mark | undefined {
    const row = this.#database.get('SELECT value FROM notes WHERE name = ?', markNote);
    return row === undefined ? undefined : (JSON.parse(text(row, 'value')) as Mark);
  }
}
