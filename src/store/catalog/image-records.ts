import type { Digest } from '../../oci/digest.ts';
import type { Database } from './database.ts';
import type { ImageGraph } from './image-graph.ts';
import type { ImagePart, ManifestSource } from './image-parts.ts';
import { digestIn, isSet, number, optionalText, text } from './row.ts';
import type { UseRecords } from './use-records.ts';

/** A repository as the catalog knows it. */
export interface RepositoryRow {
  readonly id: number;
  /** `docker.io/library/nginx` */
  readonly name: string;
}

/** A tag, and the manifest it stands for: to clients that accept what the mirror asks for (`variant` ''), or to those with another `Accept`. */
export interface TagRow {
  readonly tag: string;
  readonly variant: string;
  readonly digest: Digest;
  readonly checkedAtMs: number;
}

/** The record of a stored manifest. */
export interface ManifestRow {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly artifactType: string | undefined;
  /** Bytes. */
  readonly size: number;
  readonly storedAtMs: number;
  readonly usedAtMs: number;
  readonly isPinned: boolean;
  /** Whether it is among what was used last. */
  readonly isRecent: boolean;
  readonly source: ManifestSource | undefined;
}

export interface ImageRecordsOptions {
  readonly graph: ImageGraph;
  readonly uses: UseRecords;
  readonly now: () => number;
}

/** Deepest nesting of indexes that is followed. */
const maxDepth = 4;

/** The images in the catalog, part by part: however many there are, a look takes little. */
export class ImageRecords {
  readonly #database: Database;
  readonly #graph: ImageGraph;
  readonly #options: ImageRecordsOptions;

  constructor(database: Database, options: ImageRecordsOptions) {
    this.#database = database;
    this.#options = options;
    this.#graph = options.graph;
  }

  /** Repositories in the order of their names: those after a name, up to a number. */
  repositories({ after, limit }: { readonly after: string; readonly limit: number }): RepositoryRow[] {
    const rows = this.#database.all(
      'SELECT id, name FROM repositories WHERE name > ? ORDER BY name LIMIT ?',
      after,
      limit,
    );
    return rows.map((row) => ({ id: number(row, 'id'), name: text(row, 'name') }));
  }

  /**
   * Repositories of which an image can be pulled from this disk, in byte order.
   * @param page `prefix`: only names that begin with it; `limit`: rows that are looked at, listed or not
   * @returns what there is among them, and where to go on; `undefined` at the end
   */
  listed({ prefix, after, limit }: { readonly prefix: string; readonly after: string; readonly limit: number }): {
    names: string[];
    next: string | undefined;
  } {
    const rows = this.#database.all(
      `SELECT r.name, EXISTS (SELECT 1 FROM tags t JOIN blobs b ON b.digest = t.digest WHERE t.repository = r.id)
         OR EXISTS (SELECT 1 FROM grants g JOIN manifests m ON m.digest = g.digest JOIN blobs b ON b.digest = g.digest
           WHERE g.repository = r.id) AS is_listed
       FROM repositories r WHERE r.name > ? ORDER BY r.name LIMIT ?`,
      after > prefix ? after : prefix,
      limit,
    );
    const found = rows.filter((row) => text(row, 'name').startsWith(prefix));
    const names = found.filter((row) => isSet(row, 'is_listed')).map((row) => text(row, 'name'));
    const last = rows.at(-1);
    const isEnd = last === undefined || rows.length < limit || found.length < rows.length;
    return { names, next: isEnd ? undefined : text(last, 'name') };
  }

  /** Tags of a repository in order: those after a row, up to a number. */
  tags(
    repository: number,
    { after, limit }: { readonly after: Pick<TagRow, 'tag' | 'variant'>; readonly limit: number },
  ): TagRow[] {
    const rows = this.#database.all(
      `SELECT tag, variant, digest, checked_at FROM tags WHERE repository = ? AND (tag, variant) > (?, ?)
       ORDER BY tag, variant LIMIT ?`,
      repository,
      after.tag,
      after.variant,
      limit,
    );
    return rows.map((row) => ({
      tag: text(row, 'tag'),
      variant: text(row, 'variant'),
      digest: digestIn(row),
      checkedAtMs: number(row, 'checked_at'),
    }));
  }

  /**
   * Manifests of a repository that no tag of it stands for, that no stored manifest names, and that are attached to none.
   * @param page `limit`: rights that are looked at, manifests or not
   * @returns what there is among them, and where to go on; `undefined` at the end
   */
  untagged(
    repository: number,
    { after, limit }: { readonly after: string; readonly limit: number },
  ): { digests: Digest[]; next: string | undefined } {
    const rows = this.#database.all(
      `SELECT g.digest, EXISTS (SELECT 1 FROM manifests m WHERE m.digest = g.digest)
         AND EXISTS (SELECT 1 FROM blobs b WHERE b.digest = g.digest)
         AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.digest = g.digest AND t.repository = g.repository)
         AND NOT EXISTS (SELECT 1 FROM links l JOIN blobs b ON b.digest = l.manifest WHERE l.target = g.digest)
         AND NOT EXISTS (SELECT 1 FROM attachments a JOIN blobs b ON b.digest = a.subject WHERE a.manifest = g.digest
           AND a.repository = g.repository)
         AS is_image
       FROM grants g WHERE g.repository = ? AND g.digest > ? ORDER BY g.digest LIMIT ?`,
      repository,
      after,
      limit,
    );
    const digests = rows.filter((row) => isSet(row, 'is_image')).map((row) => digestIn(row));
    const last = rows.at(-1)?.['digest'];
    return { digests, next: rows.length < limit || last === undefined ? undefined : String(last) };
  }

  /** The record of a manifest, if it is stored. */
  manifest(digest: Digest): ManifestRow | undefined {
    const row = this.#database.get(
      `SELECT m.media_type, m.artifact_type, m.source, b.size, b.stored_at, b.used_at, b.pinned, b.recent
       FROM manifests m JOIN blobs b ON b.digest = m.digest WHERE m.digest = ?`,
      digest,
    );
    return (
      row && {
        digest,
        mediaType: text(row, 'media_type'),
        artifactType: optionalText(row, 'artifact_type'),
        size: number(row, 'size'),
        storedAtMs: number(row, 'stored_at'),
        usedAtMs: number(row, 'used_at'),
        isPinned: isSet(row, 'pinned'),
        isRecent: isSet(row, 'recent'),
        source: optionalText(row, 'source') as ManifestSource | undefined,
      }
    );
  }

  /** The manifests that an index names. */
  children(index: Digest): Digest[] {
    const rows = this.#database.all(
      `SELECT target FROM links WHERE manifest = ? AND kind = 'manifest' ORDER BY target`,
      index,
    );
    return rows.map((row) => digestIn(row, 'target'));
  }

  /** Whether a manifest is stored with all that it needs; an index: with one of its images at least. */
  isWhole(manifest: Digest, depth = 0): boolean {
    const row = this.#database.get(
      `SELECT EXISTS (SELECT 1 FROM links l WHERE l.manifest = ?1 AND l.kind = 'blob'
         AND NOT EXISTS (SELECT 1 FROM blobs b WHERE b.digest = l.target)) AS lacks
       FROM manifests m JOIN blobs b ON b.digest = m.digest WHERE m.digest = ?1`,
      manifest,
    );
    if (row?.['lacks'] !== 0) return false;
    const children = this.children(manifest);
    return children.length === 0 || (depth < maxDepth && children.some((child) => this.isWhole(child, depth + 1)));
  }

  /**
   * The config and layers that a manifest names, stored or not; none if it names more than `limit`. `bytes` as stored,
   * else as the manifest says (-1: it does not).
   */
  partsToCome(manifest: Digest, limit: number) {
    const beyond = `SELECT 1 FROM links WHERE manifest = ? AND kind = 'blob' LIMIT 1 OFFSET ?`;
    if (this.#database.get(beyond, manifest, limit) !== undefined) return [];
    const rows = this.#database.all(
      `SELECT l.target, COALESCE(b.size, l.size) AS bytes, b.digest IS NOT NULL AS is_stored, b.pinned = 1 AS is_pinned
       FROM links l LEFT JOIN blobs b ON b.digest = l.target WHERE l.manifest = ? AND l.kind = 'blob' LIMIT ?`,
      manifest,
      limit,
    );
    return rows.map((row) => ({
      digest: digestIn(row, 'target'),
      bytes: number(row, 'bytes'),
      isStored: isSet(row, 'is_stored'),
      isPinned: isSet(row, 'is_pinned'),
    }));
  }

  /** Whether a manifest names a digest, itself or through one of the manifests that it names. */
  needs(manifest: Digest, part: Digest): boolean {
    const row = this.#database.get(
      `SELECT 1 FROM links WHERE manifest = ?1 AND target = ?2
       UNION ALL SELECT 1 FROM links l JOIN links c ON c.manifest = ?1 AND c.target = l.manifest AND c.kind = 'manifest'
         WHERE l.target = ?2 LIMIT 1`,
      manifest,
      part,
    );
    return row !== undefined;
  }

  /** Some of the stored manifests that name a blob and were used within the last minute. */
  namedLately(blob: Digest): Digest[] {
    const { uses, now } = this.#options;
    const rows = this.#database.all(
      `SELECT n.manifest, b.used_at FROM (SELECT manifest FROM links WHERE target = ? AND kind = 'blob' LIMIT 200) n
       JOIN blobs b ON b.digest = n.manifest`,
      blob,
    );
    const sinceMs = now() - 60_000;
    return rows
      .filter((row) => number(row, 'used_at') > sinceMs || uses.isTouched(digestIn(row, 'manifest')))
      .map((row) => digestIn(row, 'manifest'))
      .slice(0, 20);
  }

  /** A manifest itself, all that it names and all that is attached to it in a repository, stored or not; each once. */
  parts(manifest: Digest, repository: string): ImagePart[] {
    return this.#graph.parts(manifest, repository);
  }

  /** As {@link parts}, those that are stored. */
  storedParts(manifest: Digest, repository: string): ImagePart[] {
    return this.#graph.parts(manifest, repository, { isHere: true }).filter(({ isStored }) => isStored);
  }

  /** The manifests that are attached to another one in a repository: referrers, and what tags of cosign attach to it. */
  attachments(subject: Digest, repository: string): Digest[] {
    return this.#graph.attachments(subject, repository);
  }

  /** The stored manifests that name a digest. */
  parents(digest: Digest): Digest[] {
    return this.#graph.parents(digest);
  }
}
