import { LRUCache } from 'lru-cache';
import { isElsewhere, type ManifestLinks } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import type { Database } from './database.ts';
import { digestIn, isSet, optionalNumber, text } from './row.ts';

/** Something that an image consists of, or that goes with it. */
export interface ImagePart {
  readonly digest: Digest;
  /** Bytes, as stored or as its manifest says; `undefined` where nobody has said. */
  readonly size: number | undefined;
  readonly isManifest: boolean;
  readonly isStored: boolean;
}

const repositoryId = '(SELECT id FROM repositories WHERE name = ?2)';

/**
 * Everything a manifest needs, and what goes with it in a repository: children, config, layers, referrers, and theirs. The
 * plus keeps SQLite from going through all that the repository has.
 */
const closure = `
WITH RECURSIVE need(digest) AS (
  VALUES (?1)
  UNION SELECT l.target FROM links l JOIN need n ON l.manifest = n.digest
  UNION SELECT a.manifest FROM tag_attachments a JOIN need n ON a.subject = n.digest WHERE +a.repository = ${repositoryId}
  UNION SELECT a.manifest FROM subject_attachments a JOIN need n ON a.subject = n.digest WHERE +a.repository = ${repositoryId}
)`;

/**
 * Everything that needs a digest: what names it, in whatever repository, and what it goes with. What goes with something in
 * one repository goes with nothing else in another one, so that the way up keeps to the repository from there on.
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

/** Where a manifest came from: its upstream, another replica, or an archive. */
export type ManifestSource = 'upstream' | 'replica' | 'archive';

/** What a manifest names, and the size that it gives it in bytes (-1: none). */
export interface NamedPart {
  readonly digest: Digest;
  readonly size: number;
}

/** What manifests name and what is attached to them: the images, their parts, and what they share. */
export class ImageGraph {
  readonly #database: Database;
  readonly #manifests = new LRUCache<Digest, true>({ max: 50_000 });

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

  /** Notes in memory that a digest is a manifest: it counts as one even where that cannot be written. */
  note(manifest: Digest): void {
    this.#manifests.set(manifest, true);
  }

  /** Records a manifest and what it names. To be called within a write of the database. */
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
    for (const { digest, kind, size } of linksOf(links)) {
      this.#database.run('INSERT OR REPLACE INTO links VALUES (?, ?, ?, ?)', manifest, digest, kind, size);
    }
  }

  /** Forgets that a blob is a manifest, and what it names. To be called within a write of the database. */
  remove(manifest: Digest): void {
    this.#manifests.delete(manifest);
    this.#database.run('DELETE FROM manifests WHERE digest = ?', manifest);
    this.#database.run('DELETE FROM links WHERE manifest = ?', manifest);
  }

  /** Forgets in memory what the tables do not have any more. */
  drop(manifest: Digest): void {
    this.#manifests.delete(manifest);
  }

  /** What a manifest names. */
  named(manifest: Digest): NamedPart[] {
    const rows = this.#database.all('SELECT target, size FROM links WHERE manifest = ?', manifest);
    return rows.map((row) => ({ digest: digestIn(row, 'target'), size: Number(row['size']) }));
  }

  /** The manifest that a manifest is attached to by what it says itself. */
  subject(manifest: Digest): Digest | undefined {
    const row = this.#database.get('SELECT subject FROM manifests WHERE digest = ?', manifest);
    return row?.['subject'] ? digestIn(row, 'subject') : undefined;
  }

  /**
   * A manifest has come to go with something in a repository: it is not colder than that, since it is never evicted before
   * it. To be called within a write of the database.
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

  /** A manifest itself, all that it names and all that goes with it in a repository, stored or not; each once. */
  parts(manifest: Digest, repository: string): ImagePart[] {
    // Of the manifests that name a part, one is looked at: a layer may belong to every image there is.
    const rows = this.#database.all(
      `${closure} SELECT n.digest, b.size, m.digest IS NOT NULL AS is_manifest,
         CASE WHEN b.size IS NULL THEN (SELECT size FROM links WHERE target = n.digest LIMIT 1) END AS named_size,
         m.digest IS NULL AND (SELECT kind FROM links WHERE target = n.digest LIMIT 1) = 'manifest' AS is_child
       FROM need n LEFT JOIN blobs b ON b.digest = n.digest LEFT JOIN manifests m ON m.digest = n.digest`,
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
   * What is reached through a manifest alone: itself and its parts, less what something else holds and what that needs.
   * @param of `repository`: through which; `all`: its parts, where the caller has them
   * @param isHeld whether something beside `parts` holds one of them
   */
  own(
    manifest: Digest,
    of: { readonly repository: string; readonly all?: readonly ImagePart[] },
    isHeld: (digest: Digest, parts: ReadonlyMap<Digest, ImagePart>) => boolean,
  ): ImagePart[] {
    const { repository, all = this.parts(manifest, repository) } = of;
    const parts = new Map(all.map((part) => [part.digest, part]));
    const held = new Set<Digest>();
    for (const { digest, isManifest } of parts.values()) {
      if (held.has(digest) || !isHeld(digest, parts)) continue;
      held.add(digest);
      if (isManifest) for (const part of this.parts(digest, repository)) held.add(part.digest);
    }
    return [...parts.values()].filter(({ digest }) => !held.has(digest));
  }

  /** As {@link isNeeded}, of the manifests that name it alone. */
  isNamed(digest: Digest, isWanted: (manifest: Digest) => boolean): boolean {
    return this.#database.some(
      'SELECT l.manifest AS digest FROM links l JOIN blobs b ON b.digest = l.manifest WHERE l.target = ?',
      (row) => isWanted(digestIn(row)),
      digest,
    );
  }

  /**
   * Whether one of the stored manifests that name a digest, or that it goes with, is as wanted. Reads no more of them than
   * that takes: a layer may belong to every image there is.
   */
  isNeeded(digest: Digest, isWanted: (manifest: Digest) => boolean): boolean {
    return this.#database.some(
      `SELECT l.manifest AS digest FROM links l JOIN blobs b ON b.digest = l.manifest WHERE l.target = ?1
       UNION ALL SELECT a.subject FROM attachments a JOIN blobs b ON b.digest = a.subject WHERE a.manifest = ?1`,
      (row) => isWanted(digestIn(row)),
      digest,
    );
  }

  /** The manifests that go with another one in a repository, stored or not. */
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

  /** Pins a manifest and its parts in a repository. To be called within a write of the database. */
  pin(manifest: Digest, repository: string): void {
    this.#database.run(
      `${closure} UPDATE blobs SET pinned = 1 WHERE pinned = 0 AND digest IN need`,
      manifest,
      repository,
    );
  }

  /** Pins one blob. To be called within a write of the database. */
  pinAlone(digest: Digest): void {
    this.#database.run('UPDATE blobs SET pinned = 1 WHERE digest = ? AND pinned = 0', digest);
  }

  /** Whether something pinned names a digest, other than these, or has it attached. */
  isNextToPin(digest: Digest, others: ReadonlyMap<Digest, unknown> = new Map()): boolean {
    return this.#database.some(
      `SELECT l.manifest AS digest FROM links l JOIN blobs b ON b.digest = l.manifest WHERE l.target = ?1 AND b.pinned = 1
       UNION ALL SELECT a.subject FROM attachments a JOIN blobs b ON b.digest = a.subject
         WHERE a.manifest = ?1 AND b.pinned = 1`,
      (row) => !others.has(digestIn(row)),
      digest,
    );
  }

  /** The tags and pins that stand for a manifest, or for something that needs it in their repository. */
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

  /** Frees a blob. To be called within a write of the database. */
  unpin(digest: Digest): void {
    this.#database.run('UPDATE blobs SET pinned = 0 WHERE digest = ? AND pinned = 1', digest);
  }
}

/** What a manifest names, as the table of links has it: 'elsewhere' for layers that registries need not hold. */
export function linksOf({ manifests, blobs }: ManifestLinks): (NamedPart & { readonly kind: string })[] {
  return [
    ...manifests.map((target) => ({ ...target, kind: 'manifest' })),
    ...blobs.map((target) => ({ ...target, kind: isElsewhere(target) ? 'elsewhere' : 'blob' })),
  ];
}
