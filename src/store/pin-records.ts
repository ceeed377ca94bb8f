import { type Digest, isDigest } from '../oci/digest.ts';
import type { Database } from './database.ts';
import type { ImageGraph } from './image-graph.ts';

/** An image that an operator has pinned by name. */
export interface Pin {
  /** The repository as the cache names it: `docker.io/library/nginx`. */
  readonly repository: string;
  /** A tag, or a digest. */
  readonly reference: string;
  readonly pinnedAtMs: number;
}

/** Tells whether the configuration pins a tag. @param repository as the cache names it */
export type PinPatterns = (repository: string, tag: string) => boolean;

/** What is pinned by name, and with it every blob that those images need. */
export class PinRecords {
  readonly #database: Database;
  readonly #graph: ImageGraph;
  #names: Set<string> | undefined;
  #digests: Set<string> | undefined;
  #patterns: PinPatterns = () => false;

  constructor(database: Database, graph: ImageGraph) {
    this.#database = database;
    this.#graph = graph;
  }

  /** Every pin by name, in order. */
  list(): Pin[] {
    const rows = this.#database.all('SELECT * FROM pins ORDER BY repository, reference');
    return rows.map((row) => ({
      repository: String(row['repository']),
      reference: String(row['reference']),
      pinnedAtMs: Number(row['pinned_at']),
    }));
  }

  /** Whether a tag or digest of a repository is pinned: by name, or by the configuration. */
  isPinned(repository: string, reference: string): boolean {
    return this.isPinnedByName(repository, reference) || this.#patterns(repository, reference);
  }

  /** Whether a digest is pinned as such, in whatever repository. */
  isPinnedDigest(digest: Digest): boolean {
    this.#digests ??= new Set(this.list().flatMap(({ reference }) => (isDigest(reference) ? [reference] : [])));
    return this.#digests.has(digest);
  }

  /** Whether an operator has pinned this by name, whatever the configuration says. */
  isPinnedByName(repository: string, reference: string): boolean {
    this.#names ??= new Set(this.list().map((pin) => nameOf(pin)));
    return this.#names.has(nameOf({ repository, reference }));
  }

  /** Pins a tag, whatever it comes to stand for, or a digest. @throws Error where the catalog cannot be written */
  add({ repository, reference, pinnedAtMs }: Pin): void {
    this.#database.writeNow(() => {
      this.#database.run('INSERT OR IGNORE INTO pins VALUES (?, ?, ?)', repository, reference, pinnedAtMs);
      for (const digest of this.meant(repository, reference)) this.#graph.pin(digest);
    });
    this.#names?.add(nameOf({ repository, reference }));
    this.#digests = undefined;
  }

  /** Takes a pin back. @returns whether there was one @throws Error where the catalog cannot be written */
  remove(repository: string, reference: string): boolean {
    if (!this.isPinnedByName(repository, reference)) return false;
    this.#names?.delete(nameOf({ repository, reference }));
    this.#digests = undefined;
    try {
      this.#database.writeNow(() => {
        this.#database.run('DELETE FROM pins WHERE repository = ? AND reference = ?', repository, reference);
        const roots = this.meant(repository, reference);
        for (const digest of roots) this.release(digest);
        // What it stood for is not known any more.
        if (roots.length === 0) this.#pinAnew();
      });
    } catch (error) {
      this.#names = undefined;
      this.#digests = undefined;
      throw error;
    }
    return true;
  }

  /** Puts the patterns of a configuration in force. @param fingerprint tells them from those of an earlier run */
  usePatterns(patterns: PinPatterns, fingerprint: string): void {
    this.#patterns = patterns;
    const before = this.#database.get(`SELECT value FROM notes WHERE name = 'pin patterns'`);
    if (before?.['value'] === fingerprint || (before === undefined && fingerprint === '')) return;
    this.#database.write(() => {
      this.#database.run(`INSERT OR REPLACE INTO notes VALUES ('pin patterns', ?)`, fingerprint);
      this.#pinAnew();
    });
  }

  /** A tag has come to stand for another manifest. To be called within a write of the database. */
  tagMoved(repository: string, tag: string, before: Digest | undefined): void {
    if (!this.isPinned(repository, tag)) return;
    for (const digest of this.meant(repository, tag)) this.#graph.pin(digest);
    if (before !== undefined) this.release(before);
  }

  /** Frees what was pinned with a manifest and no pin holds any more. To be called within a write of the database. */
  release(manifest: Digest): void {
    const own = this.#graph.own(
      manifest,
      (digest, parts) => this.#isRoot(digest) || this.#graph.isHeldByPin(digest, parts),
    );
    for (const { digest } of own) this.#graph.unpin(digest);
  }

  /** A manifest or blob has come to the disk. To be called within a write of the database. */
  stored(digest: Digest): void {
    if (this.#isRoot(digest)) this.#graph.pin(digest);
    else this.#graph.inheritPin(digest);
  }

  /** Whether a manifest is what a pin stands for. */
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
    return rows.map((row) => ({ repository: String(row['repository']), reference: String(row['reference']) }));
  }

  /** The manifests that a name stands for: several where a tag was asked for with several `Accept` lists. */
  meant(repository: string, reference: string): Digest[] {
    if (isDigest(reference)) return [reference];
    const rows = this.#database.all(
      'SELECT DISTINCT t.digest FROM tags t JOIN repositories r ON r.id = t.repository WHERE r.name = ? AND t.tag = ?',
      repository,
      reference,
    );
    return rows.map((row) => row['digest'] as Digest);
  }

  /** Marks what is pinned now and nothing else. */
  #pinAnew(): void {
    this.#names = undefined;
    this.#digests = undefined;
    this.#graph.unpinAll();
    for (const { reference } of this.list()) if (isDigest(reference)) this.#graph.pin(reference);
    const rows = this.#database.all(
      'SELECT r.name, t.tag, t.digest FROM tags t JOIN repositories r ON r.id = t.repository',
    );
    for (const row of rows) {
      if (this.isPinned(String(row['name']), String(row['tag']))) this.#graph.pin(row['digest'] as Digest);
    }
  }
}

function nameOf({ repository, reference }: { repository: string; reference: string }): string {
  return `${repository} ${reference}`;
}
