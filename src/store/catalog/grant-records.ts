import { LRUCache } from 'lru-cache';
import type { Digest } from '../../oci/digest.ts';
import { blobFact, type Changes, nothingRemoved, rightFact } from '../../oci/facts.ts';
import { upTo } from '../../oci/lru-bound.ts';
import type { BlobRecords } from './blob-records.ts';
import type { Database } from './database.ts';
import type { NamedPart } from './image-parts.ts';
import type { NameJournal } from './name-journal.ts';
import type { PinRecords } from './pin-records.ts';
import { isSet, number, text } from './row.ts';

export interface GrantRecordsOptions {
  readonly journal: NameJournal;
  readonly blobs: BlobRecords;
  readonly pins: PinRecords;
  readonly changes: Changes;
}

/** Which repositories may read which digests. Reads come from bounded memory first. */
export class GrantRecords {
  readonly #database: Database;
  readonly #grants = new LRUCache<string, number>(upTo(100_000));
  /** Of what is not there, what was asked for last: for one blob that comes here it is asked several times. */
  readonly #missing = new LRUCache<string, true>({ max: 500 });
  /** By manifest: the repositories that may read all that it names. */
  readonly #entire = new LRUCache<Digest, Set<string>>(upTo(50_000));

  readonly #options: GrantRecordsOptions;

  constructor(database: Database, options: GrantRecordsOptions) {
    this.#database = database;
    this.#options = options;
  }

  /** Whether a repository may read a digest: a manifest of it names it, or the upstream has confirmed it there. */
  mayRead(repository: string, digest: Digest): boolean {
    return this.#grant(repository, digest) !== undefined;
  }

  /**
   * Whether a repository may read a digest as it is stored: it {@link mayRead} it, and its upstream has shown that it has
   * these bytes. A manifest that names a digest is a claim, and no proof.
   */
  isReadable(repository: string, digest: Digest): boolean {
    if (!this.mayRead(repository, digest)) return false;
    const { blobs } = this.#options;
    // A blob that is not stored comes from its own upstream.
    return blobs.isShown(digest, upstreamOf(repository)) || blobs.get(digest) === undefined;
  }

  /** Whether a repository may read a digest and, where that is a manifest that is stored, all that it names. */
  mayReadAll(repository: string, digest: Digest): boolean {
    return this.mayRead(repository, digest) && this.#isEntire(repository, digest);
  }

  /** Whether a repository may read a manifest as it is stored, and all that it names. */
  isReadableWhole(repository: string, digest: Digest): boolean {
    return this.isReadable(repository, digest) && this.#isEntire(repository, digest);
  }

  /** Whether a repository may read all that a digest names, if it is a stored manifest. */
  #isEntire(repository: string, digest: Digest): boolean {
    const known = this.#entire.get(digest);
    if (known?.has(repository)) return true;
    const row = this.#database.get(
      `SELECT NOT EXISTS (SELECT 1 FROM links l WHERE l.manifest = ?2 AND l.kind <> 'elsewhere' AND NOT EXISTS (SELECT 1 FROM grants g
         WHERE g.repository = (SELECT id FROM repositories WHERE name = ?1) AND g.digest = l.target)) AS entire`,
      repository,
      digest,
    );
    const isEntire = isSet(row, 'entire');
    if (isEntire) this.#noteEntire(repository, digest);
    return isEntire;
  }

  /** The size that a manifest of the repository gives a blob, in bytes; `undefined` where none does. */
  expectedSize(repository: string, digest: Digest): number | undefined {
    const size = this.#grant(repository, digest);
    return size === undefined || size < 0 ? undefined : size;
  }

  /** Remembers that the upstream has confirmed a digest in a repository; what is attached to it there may have come before. */
  grant(repository: string, digest: Digest): void {
    if (this.mayRead(repository, digest)) return;
    this.#options.journal.add({ kind: 'grant', repository, digest, size: -1 });
    this.add(repository, digest);
    this.#database.write(() => this.#options.pins.stored(digest));
  }

  /** As {@link grant}, where something else says so too: nothing follows from it. */
  add(repository: string, digest: Digest): void {
    if (this.mayRead(repository, digest)) return;
    this.#grants.set(`${repository} ${digest}`, -1);
    this.#missing.delete(`${repository} ${digest}`);
    this.#options.blobs.noteClaimed(digest, upstreamOf(repository));
    this.#database.write(() => {
      this.#database.run(
        'INSERT OR IGNORE INTO grants VALUES (?, ?, -1)',
        this.#database.repositoryId(repository),
        digest,
      );
    });
  }

  /** Gives back a right with the size that was known; what is known by now stays. */
  restore(repository: string, digest: Digest, size: number): void {
    this.#missing.delete(`${repository} ${digest}`);
    this.#database.write(() => {
      const repositoryId = this.#database.repositoryId(repository);
      this.#database.run('INSERT OR IGNORE INTO grants VALUES (?, ?, ?)', repositoryId, digest, size);
    });
  }

  /**
   * Gives a repository a manifest and what it names. Layers that registries need not hold are left out: a registry
   * accepts a manifest that names them without having them.
   * @param parts what it names, with the sizes that it gives (-1: none)
   */
  addManifest(repository: string, manifest: Digest, parts: readonly NamedPart[]): void {
    this.add(repository, manifest);
    this.addParts(repository, parts);
    this.#noteEntire(repository, manifest);
  }

  /** As {@link addManifest}, for some of what it names. */
  addParts(repository: string, parts: readonly NamedPart[]): void {
    for (const { digest, size } of parts) {
      this.#grants.set(`${repository} ${digest}`, size);
      this.#missing.delete(`${repository} ${digest}`);
      this.#options.blobs.noteClaimed(digest, upstreamOf(repository));
    }
    this.#database.write(() => {
      const repositoryId = this.#database.repositoryId(repository);
      for (const { digest, size } of parts) {
        this.#database.run('INSERT OR REPLACE INTO grants VALUES (?, ?, ?)', repositoryId, digest, size);
      }
    });
  }

  /** The parts of a manifest have become known, or are not known any more: forgets what was remembered of it. */
  dropParts(manifest: Digest): void {
    this.#options.changes.changed(blobFact(manifest));
    this.#entire.delete(manifest);
  }

  /** The repositories that may read a digest, any of them first. */
  readers(digest: Digest): string[] {
    const rows = this.#database.all(
      'SELECT r.name FROM grants g JOIN repositories r ON r.id = g.repository WHERE g.digest = ? LIMIT 100',
      digest,
    );
    return rows.map((row) => text(row, 'name'));
  }

  /** Takes a right back. To be called within a write of the database. */
  revoke(repository: string, digest: Digest): void {
    this.drop(repository, digest);
    this.#database.run(
      'DELETE FROM grants WHERE repository = ? AND digest = ?',
      this.#database.repositoryId(repository),
      digest,
    );
  }

  /**
   * Takes back all rights to a digest that is not stored and that nothing names. To be called within a write of the
   * database, and followed by {@link drop}.
   * @returns what they were
   */
  removeUnneeded(digest: Digest): { readonly repository: string; readonly digest: Digest }[] {
    const needed = this.#database.get(
      'SELECT 1 FROM blobs WHERE digest = ?1 UNION ALL SELECT 1 FROM links WHERE target = ?1 LIMIT 1',
      digest,
    );
    if (needed !== undefined) return [];
    const rows = this.#database.all(
      'SELECT r.name FROM grants g JOIN repositories r ON r.id = g.repository WHERE g.digest = ?',
      digest,
    );
    this.#database.run('DELETE FROM grants WHERE digest = ?', digest);
    return rows.map((row) => ({ repository: text(row, 'name'), digest }));
  }

  /** Forgets in memory what the tables do not have any more. */
  drop(repository: string, digest: Digest): void {
    this.#options.changes.changed(rightFact(repository, digest));
    this.#options.changes.changed(nothingRemoved);
    this.#grants.delete(`${repository} ${digest}`);
    this.#entire.get(digest)?.delete(repository);
  }

  #noteEntire(repository: string, manifest: Digest): void {
    const known = this.#entire.get(manifest);
    if (known) known.add(repository);
    else this.#entire.set(manifest, new Set([repository]));
  }

  #grant(repository: string, digest: Digest): number | undefined {
    const cacheKey = `${repository} ${digest}`;
    const cached = this.#grants.get(cacheKey);
    if (cached !== undefined) return cached;
    if (this.#missing.has(cacheKey)) return undefined;
    const { faults } = this.#database;
    const id = this.#database.knownRepositoryId(repository);
    const row =
      id === undefined
        ? undefined
        : this.#database.get('SELECT size FROM grants WHERE repository = ? AND digest = ?', id, digest);
    if (!row) {
      if (this.#database.faults === faults) this.#missing.set(cacheKey, true);
      return undefined;
    }
    const size = number(row, 'size');
    this.#grants.set(cacheKey, size);
    return size;
  }
}

/** The upstream of a repository, as the cache names it. */
export function upstreamOf(repository: string): string {
  return repository.slice(0, Math.max(0, repository.indexOf('/')));
}
