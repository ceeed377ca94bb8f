import type { Digest } from '../../oci/digest.ts';
import type { BlobRecords } from './blob-records.ts';
import type { Database } from './database.ts';
import { upstreamOf } from './grant-records.ts';
import { digestIn } from './row.ts';

/** Maximum nesting of manifests that is followed from a digest to what an upstream has confirmed. */
const maxDepth = 4;
/** Maximum manifests looked at on each level. */
const maxParents = 100;

/**
 * How an upstream was asked when it confirmed that a repository has a digest: with the same access, another replica may
 * rely on it. Access is a keyed mark of URLs and credentials, never a secret.
 */
export class ConfirmationRecords {
  readonly #database: Database;
  readonly #blobs: BlobRecords;

  constructor(database: Database, { blobs }: { readonly blobs: BlobRecords }) {
    this.#database = database;
    this.#blobs = blobs;
  }

  /** The upstream, asked in this way, has just confirmed a digest in a repository. */
  note(repository: string, digest: Digest, access: string): void {
    this.#database.write(() =>
      this.#database.run(
        'INSERT OR REPLACE INTO confirmations VALUES (?, ?, ?)',
        this.#database.repositoryId(repository),
        digest,
        access,
      ),
    );
  }

  /**
   * Whether the upstream, asked in this way, has confirmed a digest in a repository, or a tag or manifest of the
   * repository that leads to it. A manifest leads further only if its bytes were shown by the repository's upstream.
   */
  isKnown(repository: string, digest: Digest, access: string): boolean {
    const upstream = upstreamOf(repository);
    const seen = new Set<Digest>();
    let level: Digest[] = [digest];
    for (let depth = 0; depth <= maxDepth && level.length > 0; depth += 1) {
      if (level.some((one) => this.#isConfirmed(repository, one, access))) return true;
      for (const one of level) seen.add(one);
      level = level
        .flatMap((one) => this.#parents(repository, one))
        .filter((parent) => !seen.has(parent) && this.#blobs.isShown(parent, upstream))
        .slice(0, maxParents);
    }
    return false;
  }

  #isConfirmed(repository: string, digest: Digest, access: string): boolean {
    const row = this.#database.get(
      `SELECT 1 FROM repositories r WHERE r.name = ?1 AND (
         EXISTS (SELECT 1 FROM confirmations c WHERE c.repository = r.id AND c.digest = ?2 AND c.access = ?3)
         OR EXISTS (SELECT 1 FROM tags t WHERE t.digest = ?2 AND t.repository = r.id AND t.access = ?3 AND t.checked_at > 0))`,
      repository,
      digest,
      access,
    );
    return row !== undefined;
  }

  #parents(repository: string, digest: Digest): Digest[] {
    const rows = this.#database.all(
      `SELECT l.manifest AS digest FROM links l JOIN grants g ON g.digest = l.manifest
       JOIN repositories r ON r.id = g.repository WHERE l.target = ? AND l.kind <> 'elsewhere' AND r.name = ? LIMIT ?`,
      digest,
      repository,
      maxParents,
    );
    return rows.map((row) => digestIn(row));
  }
}
