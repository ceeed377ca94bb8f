import type { Digest } from '../../oci/digest.ts';
import type { Database } from './database.ts';
import type { GrantRecords } from './grant-records.ts';
import { digestIn, number, text } from './row.ts';

/** A manifest that a repository has and may read, as far as the catalog knows it. */
export interface ListedManifest {
  readonly repository: string;
  /** The tags that stand for it, by this mirror's own `Accept` where there is that answer. */
  readonly tags: readonly string[];
  /** Whether another stored manifest of the repository lists it. */
  readonly isListed: boolean;
  readonly mediaType: string;
  /** Bytes of the manifest and of what it names, as far as the repository may read that. */
  readonly sizeBytes: number;
  readonly storedAtMs: number;
  /** Small stored blobs that it names and the repository may read. */
  readonly smallBlobs: readonly Digest[];
}

/** Configs are smaller, in bytes. */
const maxSmallBytes = 1024 * 1024;
/** No more parts of an image count for its size: an index may name a million. */
const maxCounted = 20_000;

/** The stored content of each repository, for lists and the search. */
export class ListedRecords {
  readonly #database: Database;
  readonly #grants: GrantRecords;

  constructor(database: Database, grants: GrantRecords) {
    this.#database = database;
    this.#grants = grants;
  }

  /** The digests of stored manifests, in order: those after one, up to a number. */
  manifests({ after, limit }: { readonly after: string; readonly limit: number }): Digest[] {
    return this.#database
      .all(
        `SELECT m.digest FROM manifests m JOIN blobs b ON b.digest = m.digest WHERE m.digest > ? ORDER BY m.digest LIMIT ?`,
        after,
        limit,
      )
      .map((row) => digestIn(row));
  }

  /**
   * A stored manifest, once for each repository that may read it. There may be many, and of a manifest with many parts each takes
   * milliseconds: the caller may let other work pass in between.
   */
  *of(digest: Digest): Generator<ListedManifest> {
    const row = this.#database.get(
      'SELECT m.media_type, b.size, b.stored_at FROM manifests m JOIN blobs b ON b.digest = m.digest WHERE m.digest = ?',
      digest,
    );
    if (row === undefined) return;
    const readers = this.#database.all(
      'SELECT r.id, r.name FROM grants g JOIN repositories r ON r.id = g.repository WHERE g.digest = ?',
      digest,
    );
    const manifest = { mediaType: text(row, 'media_type'), storedAtMs: number(row, 'stored_at') };
    const small = this.#smallBlobs(digest);
    // The parts that a manifest names itself are the same for all of them.
    const bytes = this.#hasChildren(digest) ? undefined : this.#partBytes(-1, digest);
    for (const reader of readers) {
      const [id, repository] = [number(reader, 'id'), text(reader, 'name')];
      if (!this.#grants.isReadable(repository, digest)) continue;
      yield {
        ...manifest,
        repository,
        tags: this.#tags(id, digest),
        isListed: this.#isListed(id, digest),
        sizeBytes: number(row, 'size') + (bytes ?? this.#partBytes(id, digest)),
        smallBlobs: small.filter((blob) => this.#grants.isReadable(repository, blob)),
      };
    }
  }

  #hasChildren(manifest: Digest): boolean {
    return (
      this.#database.get(`SELECT 1 FROM links WHERE manifest = ? AND kind = 'manifest' LIMIT 1`, manifest) !== undefined
    );
  }

  // The answer to a client with an Accept of its own does not decide what the tag is.
  #tags(repository: number, digest: Digest): string[] {
    const rows = this.#database.all(
      `SELECT DISTINCT t.tag FROM tags t WHERE t.digest = ?1 AND t.repository = ?2 AND (t.variant = '' OR NOT EXISTS (
         SELECT 1 FROM tags o WHERE o.repository = ?2 AND o.tag = t.tag AND o.variant = ''))`,
      digest,
      repository,
    );
    return rows.map((row) => text(row, 'tag'));
  }

  #isListed(repository: number, digest: Digest): boolean {
    const row = this.#database.get(
      `SELECT 1 FROM links l JOIN blobs b ON b.digest = l.manifest JOIN grants g ON g.digest = l.manifest
       WHERE l.target = ? AND l.kind = 'manifest' AND g.repository = ? LIMIT 1`,
      digest,
      repository,
    );
    return row !== undefined;
  }

  #partBytes(repository: number, manifest: Digest): number {
    const row = this.#database.get(
      `WITH own(digest) AS (SELECT ?1 UNION SELECT l.target FROM links l JOIN grants g ON g.digest = l.target
         WHERE l.manifest = ?1 AND l.kind = 'manifest' AND g.repository = ?2)
       SELECT SUM(bytes) AS bytes FROM (SELECT target, MAX(size) AS bytes FROM
         (SELECT l.target, l.size FROM own o CROSS JOIN links l ON l.manifest = o.digest WHERE l.size > 0 LIMIT ${maxCounted})
         GROUP BY target)`,
      manifest,
      repository,
    );
    return number(row, 'bytes');
  }

  #smallBlobs(manifest: Digest): Digest[] {
    const rows = this.#database.all(
      `SELECT l.target AS digest FROM links l JOIN blobs b ON b.digest = l.target
       WHERE l.manifest = ? AND l.kind = 'blob' AND b.size <= ${maxSmallBytes} LIMIT 20`,
      manifest,
    );
    return rows.map((row) => digestIn(row));
  }
}
