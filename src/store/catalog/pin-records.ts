import { type Digest, isDigest } from '../../oci/digest.ts';
import { subjectOfTag } from '../../oci/subject-of-tag.ts';
import type { Database } from './database.ts';
import type { ImageGraph } from './image-graph.ts';
import type { ImagePart } from './image-parts.ts';
import type { NameJournal } from './name-journal.ts';
import { PinRenewal } from './pin-renewal.ts';
import { digestIn, number, text } from './row.ts';

/** An image that an operator has pinned by name. */
export interface Pin {
  /** The repository as the cache names it: `docker.io/library/nginx`. */
  readonly repository: string;
  /** A tag, or a digest. */
  readonly reference: string;
  readonly pinnedAtMs: number;
}

/** Whether the configuration pins a tag. @param repository as the cache names it */
export type PinPatterns = (repository: string, tag: string) => boolean;

/** Name of the note with the applied patterns of the configuration, each in full on its own line. */
export const pinPatternsNote = 'pin patterns';

export interface PinRecordsOptions {
  readonly graph: ImageGraph;
  readonly journal: NameJournal;
  readonly now: () => number;
}

/** The pins by name, and every blob that the pinned images need. */
export class PinRecords {
  readonly #database: Database;
  readonly #graph: ImageGraph;
  readonly #journal: NameJournal;
  readonly #now: () => number;
  readonly #renewal: PinRenewal;
  #names: Set<string> | undefined;
  #digests: Set<string> | undefined;
  #patterns: PinPatterns = () => false;

  constructor(database: Database, { graph, journal, now }: PinRecordsOptions) {
    this.#database = database;
    this.#graph = graph;
    this.#journal = journal;
    this.#now = now;
    this.#renewal = new PinRenewal(database, { graph, pins: this });
  }

  /** Every pin by name, in order. */
  list(): Pin[] {
    const rows = this.#database.all('SELECT * FROM pins ORDER BY repository, reference');
    return rows.map((row) => ({
      repository: text(row, 'repository'),
      reference: text(row, 'reference'),
      pinnedAtMs: number(row, 'pinned_at'),
    }));
  }

  /** Whether a tag or digest of a repository is pinned: by name, or by the configuration. */
  isPinned(repository: string, reference: string): boolean {
    return this.isPinnedByName(repository, reference) || this.#patterns(repository, reference);
  }

  /** Whether a digest is pinned by name, in any repository. */
  isPinnedDigest(digest: Digest): boolean {
    this.#digests ??= new Set(this.list().flatMap(({ reference }) => (isDigest(reference) ? [reference] : [])));
    return this.#digests.has(digest);
  }

  /** Whether an operator has pinned this by name, regardless of the configuration. */
  isPinnedByName(repository: string, reference: string): boolean {
    this.#names ??= new Set(this.list().map((pin) => nameOf(pin)));
    return this.#names.has(nameOf({ repository, reference }));
  }

  /**
   * Pins what a tag stands for, now and later, or a digest, with everything it needs and its attachments.
   * @throws Error if the catalog cannot be written
   */
  add(repository: string, reference: string): void {
    const pinnedAtMs = this.#now();
    this.#journal.add({ kind: 'pin', repository, reference, atMs: pinnedAtMs });
    this.restore({ repository, reference, pinnedAtMs });
  }

  /** As {@link add}, for a line of the journal. */
  restore({ repository, reference, pinnedAtMs }: Pin): void {
    this.#database.writeNow(() => {
      this.#database.run('INSERT OR IGNORE INTO pins VALUES (?, ?, ?)', repository, reference, pinnedAtMs);
      for (const digest of this.meant(repository, reference)) this.#graph.pin(digest, repository);
    });
    this.#names?.add(nameOf({ repository, reference }));
    this.#digests = undefined;
  }

  /** Removes a pin. @returns whether there was one @throws Error if the catalog cannot be written */
  remove(repository: string, reference: string): boolean {
    this.#journal.add({ kind: 'unpin', repository, reference });
    return this.restoreRemoval(repository, reference);
  }

  /** As {@link remove}, for a line of the journal. */
  restoreRemoval(repository: string, reference: string): boolean {
    if (!this.isPinnedByName(repository, reference)) return false;
    this.#names?.delete(nameOf({ repository, reference }));
    this.#digests = undefined;
    try {
      this.#database.writeNow(() => {
        this.#database.run('DELETE FROM pins WHERE repository = ? AND reference = ?', repository, reference);
        const roots = this.meant(repository, reference);
        for (const digest of roots) this.release(digest, repository);
        // The manifests that it stood for are no longer known.
        if (roots.length === 0) this.#pinAnew();
      });
    } catch (error) {
      this.#names = undefined;
      this.#digests = undefined;
      throw error;
    }
    return true;
  }

  /** Does a step of the work after a change of pins. @returns whether there is more @throws Error as {@link add} */
  renew(): boolean {
    return this.#renewal.step();
  }

  /** Applies the patterns of a configuration. @param fingerprint distinguishes them from those of an earlier run */
  usePatterns(patterns: PinPatterns, fingerprint: string): void {
    this.#patterns = patterns;
    const before = this.#database.get('SELECT value FROM notes WHERE name = ?', pinPatternsNote);
    if (before?.['value'] === fingerprint || (before === undefined && fingerprint === '')) return;
    this.#database.write(() => {
      this.#database.run('INSERT OR REPLACE INTO notes VALUES (?, ?)', pinPatternsNote, fingerprint);
      this.#pinAnew();
    });
  }

  /** A tag stands for another manifest now, or for none. Call it within a write of the database. */
  tagMoved(repository: string, tag: string, before: Digest | undefined): void {
    const isPinned = this.isPinned(repository, tag);
    const isAttaching = subjectOfTag(tag) !== undefined;
    if (!isPinned && !isAttaching) return;
    for (const digest of this.meant(repository, tag)) {
      if (isPinned) this.#graph.pin(digest, repository);
      else this.stored(digest);
    }
    if (before !== undefined) this.release(before, repository);
  }

  /**
   * Unpins what was pinned with a manifest in a repository and no pin holds any more. Call it within a write of the
   * database.
   * @param all its stored parts there, if the repository may no longer read them
   */
  release(manifest: Digest, repository: string, all?: readonly ImagePart[]): void {
    const of = { repository, isHere: true, ...(all && { all }) };
    const own = this.#graph.own(manifest, of, (digest, parts) => this.isHeld(digest, parts));
    for (const { digest } of own) this.#graph.unpin(digest);
  }

  /** A manifest or blob has been stored, or has become a part of another one. Call it within a write of the database. */
  stored(digest: Digest): void {
    if (!this.#isRoot(digest) && !this.#graph.isNextToPin(digest)) return;
    // A layer has no parts and may belong to every image: which of them holds it does not matter.
    if (!this.#graph.isManifest(digest)) return this.#graph.pinAlone(digest);
    const repositories = this.#pinsAbove(digest).map(({ repository }) => repository);
    for (const repository of new Set(repositories)) this.#graph.pin(digest, repository);
  }

  /** Whether a pin stands for a manifest or what needs it, or something marked outside `parts` needs a blob. */
  isHeld(digest: Digest, parts: ReadonlyMap<Digest, ImagePart> = new Map()): boolean {
    if (this.#graph.isManifest(digest)) return this.#pinsAbove(digest).length > 0;
    return this.#isRoot(digest) || this.#graph.isNextToPin(digest, parts);
  }

  /** The pinned names of a manifest, or of something that needs it. */
  #pinsAbove(manifest: Digest): { repository: string; reference: string }[] {
    return this.#graph.namesAbove(manifest).filter(({ repository, reference }) => this.isPinned(repository, reference));
  }

  /** Whether a pin stands for a manifest itself. */
  #isRoot(digest: Digest): boolean {
    return this.#namesOf(digest).some(({ repository, reference }) => this.isPinned(repository, reference));
  }

  /** The names that may pin a manifest. */
  #namesOf(digest: Digest): { repository: string; reference: string }[] {
    const rows = this.#database.all(
      `SELECT r.name AS repository, t.tag AS reference FROM tags t JOIN repositories r ON r.id = t.repository
         WHERE t.digest = ?1
       UNION SELECT repository, reference FROM pins WHERE reference = ?1`,
      digest,
    );
    return rows.map((row) => ({ repository: text(row, 'repository'), reference: text(row, 'reference') }));
  }

  /** The manifests of a name: several if a tag was requested with several `Accept` lists. */
  meant(repository: string, reference: string): Digest[] {
    if (isDigest(reference)) return [reference];
    const rows = this.#database.all(
      'SELECT DISTINCT t.digest FROM tags t JOIN repositories r ON r.id = t.repository WHERE r.name = ? AND t.tag = ?',
      repository,
      reference,
    );
    return rows.map((row) => digestIn(row));
  }

  /** Marks exactly what is pinned now, in the background. */
  #pinAnew(): void {
    this.#names = undefined;
    this.#digests = undefined;
    this.#renewal.begin();
  }
}

function nameOf({ repository, reference }: { repository: string; reference: string }): string {
  return `${repository} ${reference}`;
}
