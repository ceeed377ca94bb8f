import { LRUCache } from 'lru-cache';
import type { ManifestLinks } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import { upTo } from '../../oci/lru-bound.ts';
import type { Database } from './database.ts';
import type { ImagePart, LinkedPart, ManifestSource, NamedPart } from './image-parts.ts';
import { digestIn, isSet, optionalNumber, text } from './row.ts';

const repositoryId = '(SELECT id FROM repositories WHERE name = ?2)';

/**
 * Everything a manifest needs, and its attachments in a repository: children, config, layers, referrers, and their own.
 * The plus keeps SQLite from scanning everything that the repository has.
 */
const closure = `
WITH RECURSIVE need(digest) AS (
  VALUES (?1)
  UNION SELECT l.target FROM links l JOIN need n ON l.manifest = n.digest
  UNION SELECT a.manifest FROM tag_attachments a JOIN need n ON a.subject = n.digest WHERE +a.repository = ${repositoryId}
  UNION SELECT a.manifest FROM subject_attachments a JOIN need n ON a.subject = n.digest WHERE +a.repository = ${repositoryId}
)`;

/**
 * Everything that needs a digest: what names it, in any repository, and what it is attached to. An attachment in one
 * repository is none in another, so the way up stays in the repository from there on.
 */
const ancestry = `
WITH RECURSIVE above(digest, repository) AS (
  VALUES (?1, NULL)
  UNION SELECT l.manifest, n.repository FROM links l JOIN above n ON l.target = n.digest
  UNION SELECT a.subject, a.repository FROM tag_attachments a JOIN above n ON a.manifest = n.digest
    WHERE n.repository IS NULL OR n.repository = a.repository
  UNION SELECT a.subject, a.repository FROM subject_attachments a JOIN above n ON a.manifest = n.digest
    WHERE n.repository IS NULL OR n.repository = a.repository
)`;

/** The links between manifests, their parts and their attachments. */
export class ImageGraph {
  readonly #database: Database;
  readonly #manifests = new LRUCache<Digest, true>(upTo(50_000));

  constructor(database: Database) {
    this.#database = database;
  }

  /** Whether a digest is known to be a manifest, stored or not. This is the one place that answers that. */
  isManifest(digest: Digest): boolean {
    if (this.#manifests.has(digest)) return true;
    if (this.#database.get('SELECT 1 FROM manifests WHERE digest = ?', digest) === undefined) return false;
    this.#manifests.set(digest, true);
    return true;
  }

  /** Remembers that a digest is a manifest: it counts as one even if that cannot be written. */
  note(manifest: Digest): void {
    this.#manifests.set(manifest, true);
  }

  /** Whether a manifest is in the tables, whatever is remembered of it. */
  isRecorded(digest: Digest): boolean {
    return this.#database.get('SELECT 1 FROM manifests WHERE digest = ?', digest) !== undefined;
  }

  /** Records a manifest, without what it names. Call it within a write of the database. */
  add(manifest: Digest, links: ManifestLinks, source: ManifestSource | undefined): void {
    const { subject, artifactType, annotations, mediaType } = links;
    this.#database.run(
      'INSERT OR REPLACE INTO manifests VALUES (?, ?, ?, ?, ?, ?)',
      manifest,
      mediaType,
      artifactType ?? null,
      subject?.digest ?? null,
      annotations ? JSON.stringify(annotations) : null,
      source ?? null,
    );
  }

  /** Records what a manifest names. Call it within a write of the database. */
  addLinks(manifest: Digest, parts: readonly LinkedPart[]): void {
    for (const { digest, kind, size } of parts) {
      this.#database.run('INSERT OR REPLACE INTO links VALUES (?, ?, ?, ?)', manifest, digest, kind, size);
    }
  }

  /** Forgets that a blob is a manifest, and what it names. Call it within a write of the database. */
  remove(manifest: Digest): void {
    this.removeAlone(manifest);
    this.#database.run('DELETE FROM links WHERE manifest = ?', manifest);
  }

  /** As {@link remove}, without what it names. */
  removeAlone(manifest: Digest): void {
    this.#manifests.delete(manifest);
    this.#database.run('DELETE FROM manifests WHERE digest = ?', manifest);
  }

  /** Forgets that a manifest names a digest. Call it within a write of the database. */
  removeLink(manifest: Digest, target: Digest): void {
    this.#database.run('DELETE FROM links WHERE manifest = ? AND target = ?', manifest, target);
  }

  /** Forgets in memory what is no longer in the tables. */
  drop(manifest: Digest): void {
    this.#manifests.delete(manifest);
  }

  /**
   * The parts that a manifest names, in the order of digests.
   * @param options `isHeld`: only what its registry has to hold; `after`, `limit`: at most so many of those that follow
   */
  named(
    manifest: Digest,
    { isHeld = false, after = '', limit = -1 }: { isHeld?: boolean; after?: string; limit?: number } = {},
  ): NamedPart[] {
    const held = isHeld ? ` AND kind <> 'elsewhere'` : '';
    const rows = this.#database.all(
      `SELECT target, size FROM links WHERE manifest = ? AND target > ?${held} ORDER BY target LIMIT ?`,
      manifest,
      after,
      limit,
    );
    return rows.map((row) => ({ digest: digestIn(row, 'target'), size: Number(row['size']) }));
  }

  /** The subject that a manifest names itself. */
  subject(manifest: Digest): Digest | undefined {
    const row = this.#database.get('SELECT subject FROM manifests WHERE digest = ?', manifest);
    return row?.['subject'] ? digestIn(row, 'subject') : undefined;
  }

  /**
   * A manifest has been attached to something in a repository: it becomes at least as warm, because it is never evicted
   * first. Call it within a write of the database.
   */
  warm(manifest: Digest, repository: string): void {
    this.#database.run(
      `${closure}, warmth(heat) AS (SELECT MAX(b.heat) FROM attachments a JOIN blobs b ON b.digest = a.subject
         WHERE a.manifest = ?1 AND a.repository = ${repositoryId})
       UPDATE blobs SET heat = MAX(heat, COALESCE((SELECT heat FROM warmth), heat)) WHERE digest IN need`,
      manifest,
      repository,
    );
  }

  /**
   * A manifest itself, everything it names, and all its attachments in a repository; each once.
   * @param options `isHere`: without blobs that are not stored
   */
  parts(manifest: Digest, repository: string, { isHere = false }: { readonly isHere?: boolean } = {}): ImagePart[] {
    // Of the manifests that name a part, only one is examined: a layer may belong to every image.
    const rows = this.#database.all(
      `${closure} SELECT n.digest, b.size, m.digest IS NOT NULL AS is_manifest,
         CASE WHEN b.size IS NULL THEN (SELECT size FROM links WHERE target = n.digest LIMIT 1) END AS named_size,
         m.digest IS NULL AND (SELECT kind FROM links WHERE target = n.digest LIMIT 1) = 'manifest' AS is_child
       FROM need n LEFT JOIN blobs b ON b.digest = n.digest LEFT JOIN manifests m ON m.digest = n.digest
       ${isHere ? 'WHERE b.size IS NOT NULL OR is_manifest OR is_child' : ''}`,
      manifest,
      repository,
    );
    return rows.map((row) => {
      const size = optionalNumber(row, 'size') ?? optionalNumber(row, 'named_size') ?? -1;
      return {
        digest: digestIn(row),
        size: size < 0 ? undefined : size,
        isManifest: isSet(row, 'is_manifest') || isSet(row, 'is_child'),
        isStored: row['size'] !== null,
      };
    });
  }

  /**
   * The manifest and those of its parts that nothing else holds or needs.
   * @param of `repository`: the repository; `isHere`: as of {@link parts}; `all`: its parts, if the caller has them
   * @param isHeld whether something outside `parts` holds one of them
   */
  own(
    manifest: Digest,
    of: { readonly repository: string; readonly isHere: boolean; readonly all?: readonly ImagePart[] },
    isHeld: (digest: Digest, parts: ReadonlyMap<Digest, ImagePart>) => boolean,
  ): ImagePart[] {
    const { repository, isHere, all = this.parts(manifest, repository, { isHere }) } = of;
    const parts = new Map(all.map((part) => [part.digest, part]));
    const held = new Set<Digest>();
    for (const { digest, isManifest } of parts.values()) {
      if (held.has(digest) || !isHeld(digest, parts)) continue;
      held.add(digest);
      if (isManifest) for (const part of this.parts(digest, repository, { isHere })) held.add(part.digest);
    }
    return [...parts.values()].filter(({ digest }) => !held.has(digest));
  }

  /** As {@link isNeeded}, for the manifests that name it only. */
  isNamed(digest: Digest, isWanted: (manifest: Digest) => boolean): boolean {
    return this.#database.some(
      'SELECT l.manifest AS digest FROM links l JOIN blobs b ON b.digest = l.manifest WHERE l.target = ?',
      (row) => isWanted(digestIn(row)),
      digest,
    );
  }

  /**
   * Whether one of the stored manifests that name a digest, or that it is attached to, matches. Reads only as many of
   * them as necessary: a layer may belong to every image.
   */
  isNeeded(digest: Digest, isWanted: (manifest: Digest) => boolean): boolean {
    return this.#database.some(
      `SELECT l.manifest AS digest FROM links l JOIN blobs b ON b.digest = l.manifest WHERE l.target = ?1
       UNION ALL SELECT a.subject FROM attachments a JOIN blobs b ON b.digest = a.subject WHERE a.manifest = ?1`,
      (row) => isWanted(digestIn(row)),
      digest,
    );
  }

  /** The attachments of a manifest in a repository, stored or not. */
  attachments(subject: Digest, repository: string): Digest[] {
    const rows = this.#database.all(
      `SELECT DISTINCT manifest FROM attachments WHERE subject = ?1 AND repository = ${repositoryId} ORDER BY manifest`,
      subject,
      repository,
    );
    return rows.map((row) => digestIn(row, 'manifest'));
  }

  /** The stored manifests that name a digest: those of images for a config or layer, indexes for a manifest. */
  parents(digest: Digest): Digest[] {
    const rows = this.#database.all(
      'SELECT l.manifest FROM links l JOIN blobs b ON b.digest = l.manifest WHERE l.target = ? ORDER BY l.manifest',
      digest,
    );
    return rows.map((row) => digestIn(row, 'manifest'));
  }

  /** Pins a manifest and its parts in a repository. Call it within a write of the database. */
  pin(manifest: Digest, repository: string): void {
    this.#database.run(
      `${closure} UPDATE blobs SET pinned = 1 WHERE pinned = 0 AND digest IN need`,
      manifest,
      repository,
    );
  }

  /** Pins one blob. Call it within a write of the database. */
  pinAlone(digest: Digest): void {
    this.#database.run('UPDATE blobs SET pinned = 1 WHERE digest = ? AND pinned = 0', digest);
  }

  /** Whether something pinned outside these names a digest, or has it attached. */
  isNextToPin(digest: Digest, others: ReadonlyMap<Digest, unknown> = new Map()): boolean {
    return this.#database.some(
      `SELECT l.manifest AS digest FROM links l JOIN blobs b ON b.digest = l.manifest WHERE l.target = ?1 AND b.pinned = 1
       UNION ALL SELECT a.subject FROM attachments a JOIN blobs b ON b.digest = a.subject
         WHERE a.manifest = ?1 AND b.pinned = 1`,
      (row) => !others.has(digestIn(row)),
      digest,
    );
  }

  /** The tags and pins of a manifest, or of something that needs it in their repository. */
  namesAbove(manifest: Digest): { repository: string; reference: string }[] {
    const rows = this.#database.all(
      `${ancestry} SELECT r.name AS repository, t.tag AS reference FROM above n CROSS JOIN tags t ON t.digest = n.digest
         CROSS JOIN repositories r ON r.id = t.repository WHERE n.repository IS NULL OR n.repository = t.repository
       UNION SELECT p.repository, p.reference FROM above n JOIN pins p ON p.reference = n.digest
         WHERE n.repository IS NULL OR n.repository = (SELECT id FROM repositories WHERE name = p.repository)`,
      manifest,
    );
    return rows.map((row) => ({ repository: text(row, 'repository'), reference: text(row, 'reference') }));
  }

  /** Unpins a blob. Call it within a write of the database. */
  unpin(digest: Digest): void {
    this.#database.run('UPDATE blobs SET pinned = 0 WHERE digest = ? AND pinned = 1', digest);
  }
}
