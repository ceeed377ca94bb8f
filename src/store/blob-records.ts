import { LRUCache } from 'lru-cache';
import { isElsewhere, type ManifestLinks } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { octetStream } from '../oci/media-types.ts';
import type { Database } from './database.ts';
import type { GrantRecords } from './grant-records.ts';
import type { ImageGraph } from './image-graph.ts';
import type { PinRecords } from './pin-records.ts';

/** What is known of a stored blob. */
export interface BlobRecord {
  readonly size: number;
  /** The exact `Content-Type` it came with. */
  readonly contentType: string;
  /** When its file was last written to, in milliseconds, as far as its content is known to be right; `undefined`: not noted. */
  readonly modifiedAtMs?: number | undefined;
}

/** A manifest that has named a subject. */
export interface ReferrerRecord {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly size: number;
  readonly artifactType: string | undefined;
  readonly annotations: Readonly<Record<string, string>> | undefined;
}

/** A manifest that has just been verified. */
export interface NewManifest extends BlobRecord {
  /** The repository it came through, as the cache names it. */
  readonly repository: string;
  readonly links: ManifestLinks;
  /** When it was last used, in milliseconds since 1970 (default: now). */
  readonly usedAtMs?: number;
}

/** A file under `blobs/` that the catalog did not know. */
export interface FoundBlob {
  readonly size: number;
  readonly modifiedAtMs: number;
  readonly usedAtMs: number;
}

// A blob begins as warm as the images that need it. ?1 is its digest, ?4 when it was used.
const heatOfNew = `heat_after(
  (SELECT MAX(b.heat) FROM links l JOIN blobs b ON b.digest = l.manifest WHERE l.target = ?1), 1, ?4)`;

/** How many used blobs are written in one go: a manifest among them stands for all that it needs. */
const usedPerFlush = 200;

interface BlobRecordsOptions {
  readonly grants: GrantRecords;
  readonly graph: ImageGraph;
  readonly pins: PinRecords;
  readonly now: () => number;
}

/** The blobs on this disk, and which of them are manifests. Reads come from bounded memory first. */
export class BlobRecords {
  readonly #database: Database;
  readonly #grants: GrantRecords;
  readonly #now: () => number;
  readonly #blobs = new LRUCache<Digest, BlobRecord>({ max: 50_000 });
  readonly #manifests = new LRUCache<Digest, true>({ max: 50_000 });
  /** How often each blob was used since that was last written. */
  readonly #used = new Map<Digest, number>();
  readonly #graph: ImageGraph;
  readonly #pins: PinRecords;

  constructor(database: Database, { grants, graph, pins, now }: BlobRecordsOptions) {
    this.#database = database;
    this.#grants = grants;
    this.#graph = graph;
    this.#pins = pins;
    this.#now = now;
  }

  /** What is known of a blob or manifest that has been stored. */
  get(digest: Digest): BlobRecord | undefined {
    const cached = this.#blobs.get(digest);
    if (cached !== undefined) return cached;
    const row = this.#database.get('SELECT size, content_type, modified_at FROM blobs WHERE digest = ?', digest);
    if (!row) return undefined;
    const modifiedAt = row['modified_at'];
    const record: BlobRecord = {
      size: Number(row['size']),
      contentType: String(row['content_type']),
      modifiedAtMs: typeof modifiedAt === 'number' ? modifiedAt : undefined,
    };
    this.#blobs.set(digest, record);
    return record;
  }

  /** Whether a blob is known to be stored; unlike {@link get} it leaves the memory to what is in use. */
  isRecorded(digest: Digest): boolean {
    return this.#database.get('SELECT 1 FROM blobs WHERE digest = ?', digest) !== undefined;
  }

  /** Blobs that are known to be stored, in the order of their digests, so that all can be gone through part by part. */
  page({ after, limit }: { readonly after: string; readonly limit: number }): { digest: Digest; size: number }[] {
    const rows = this.#database.all(
      'SELECT digest, size FROM blobs WHERE digest > ? ORDER BY digest LIMIT ?',
      after,
      limit,
    );
    return rows.map((row) => ({ digest: row['digest'] as Digest, size: Number(row['size']) }));
  }

  /** Whether a digest is known to be a manifest. */
  isManifest(digest: Digest): boolean {
    if (this.#manifests.has(digest)) return true;
    if (this.#database.get('SELECT 1 FROM manifests WHERE digest = ?', digest) === undefined) return false;
    this.#manifests.set(digest, true);
    return true;
  }

  /** How many blobs are known to be stored, manifests among them, and their bytes in all. */
  usage(): { blobs: number; bytes: number } {
    const row = this.#database.get('SELECT blobs, bytes FROM totals');
    return { blobs: Number(row?.['blobs'] ?? 0), bytes: Number(row?.['bytes'] ?? 0) };
  }

  /** Records a blob that has just been stored. */
  record(digest: Digest, { size, contentType, modifiedAtMs }: BlobRecord, usedAtMs = this.#now()): void {
    this.#blobs.set(digest, { size, contentType, modifiedAtMs });
    this.#database.write(() => {
      this.#database.run(
        `INSERT INTO blobs (digest, size, content_type, stored_at, used_at, heat, modified_at)
         VALUES (?1, ?2, ?3, ?4, ?4, ${heatOfNew}, ?5)
         ON CONFLICT DO UPDATE SET size = excluded.size, content_type = excluded.content_type, used_at = excluded.used_at,
           modified_at = excluded.modified_at`,
        digest,
        size,
        contentType,
        usedAtMs,
        modifiedAtMs ?? null,
      );
      this.#pins.stored(digest);
    });
  }

  /** Records a blob that was found on disk, with the type that is remembered of it; what is known by now stays. */
  adopt(digest: Digest, { size, modifiedAtMs, usedAtMs }: FoundBlob): void {
    this.#database.write(() => {
      this.#database.run(
        `INSERT OR IGNORE INTO blobs (digest, size, content_type, stored_at, used_at, heat, modified_at)
         VALUES (?1, ?2, COALESCE((SELECT content_type FROM remembered WHERE digest = ?1), ?3), ?4, ?4, ${heatOfNew}, ?5)`,
        digest,
        size,
        octetStream,
        usedAtMs,
        modifiedAtMs,
      );
      this.#pins.stored(digest);
    });
  }

  /** Notes of which time a file is whose content is right. */
  noteRight(digest: Digest, { size, modifiedAtMs }: { size: number; modifiedAtMs: number }): void {
    this.#blobs.delete(digest);
    this.#database.write(() =>
      this.#database.run(
        'UPDATE blobs SET size = ?1, modified_at = ?2 WHERE digest = ?3 AND (size <> ?1 OR modified_at IS NOT ?2)',
        size,
        modifiedAtMs,
        digest,
      ),
    );
  }

  /** Records a verified manifest, what it names, and that its repository may read all of that. */
  recordManifest(digest: Digest, { repository, size, contentType, links, usedAtMs }: NewManifest): void {
    this.record(digest, { size, contentType }, usedAtMs);
    this.#grants.grant(repository, digest);
    this.#manifests.set(digest, true);
    if (links.subject) this.#graph.attach(links.subject.digest, digest);
    const targets = [
      ...links.manifests.map((target) => ({ ...target, kind: 'manifest' })),
      ...links.blobs.map((target) => ({ ...target, kind: isElsewhere(target) ? 'elsewhere' : 'blob' })),
    ];
    for (const target of targets) this.#grants.note(repository, target.digest, target.size);
    this.#database.write(() => {
      const { subject, artifactType, annotations, mediaType } = links;
      this.#database.run(
        'INSERT OR REPLACE INTO manifests VALUES (?, ?, ?, ?, ?)',
        digest,
        mediaType,
        artifactType ?? null,
        subject?.digest ?? null,
        annotations ? JSON.stringify(annotations) : null,
      );
      const repositoryId = this.#database.repositoryId(repository);
      for (const target of targets) {
        this.#database.run(
          'INSERT OR REPLACE INTO links VALUES (?, ?, ?, ?)',
          digest,
          target.digest,
          target.kind,
          target.size,
        );
        this.#database.run('INSERT OR REPLACE INTO grants VALUES (?, ?, ?)', repositoryId, target.digest, target.size);
      }
      this.#pins.stored(digest);
    });
  }

  /** The stored manifests of a repository whose `subject` is a digest. */
  referrers(repository: string, subject: Digest): ReferrerRecord[] {
    const rows = this.#database.all(
      `SELECT m.digest, m.media_type, m.artifact_type, m.annotations, b.size FROM manifests m
       JOIN blobs b ON b.digest = m.digest JOIN grants g ON g.digest = m.digest
       JOIN repositories r ON r.id = g.repository WHERE m.subject = ? AND r.name = ? ORDER BY m.digest`,
      subject,
      repository,
    );
    return rows.map((row) => ({
      digest: row['digest'] as Digest,
      mediaType: String(row['media_type']),
      size: Number(row['size']),
      artifactType: row['artifact_type'] === null ? undefined : String(row['artifact_type']),
      annotations: row['annotations'] === null ? undefined : JSON.parse(String(row['annotations'])),
    }));
  }

  /** Forgets a blob whose file is gone. */
  forget(digest: Digest): void {
    this.#blobs.delete(digest);
    this.#database.write(() => this.#database.run('DELETE FROM blobs WHERE digest = ?', digest));
  }

  /** Forgets that a blob is a manifest, what it names and what it goes with. To be called within a write of the database. */
  forgetManifest(digest: Digest): void {
    this.#manifests.delete(digest);
    this.#database.run('DELETE FROM manifests WHERE digest = ?', digest);
    this.#database.run('DELETE FROM links WHERE manifest = ?', digest);
    this.#database.run('DELETE FROM attachments WHERE manifest = ?', digest);
  }

  /** Notes that a blob was used; written in batches by {@link flush}. */
  touch(digest: Digest): void {
    this.#used.set(digest, (this.#used.get(digest) ?? 0) + 1);
  }

  /** Writes what {@link touch} has noted: a part of it, so that nobody waits for long, or all. */
  flush({ everything }: { everything: boolean }): void {
    const used = [...this.#used].slice(0, everything ? undefined : usedPerFlush);
    if (used.length === 0) return;
    for (const [digest] of used) this.#used.delete(digest);
    const now = this.#now();
    this.#database.write(() => {
      // An image is used as a whole, with what goes with it; an index only names images, of which one is used.
      for (const [digest, uses] of used) {
        this.#database.run(
          `WITH RECURSIVE used(digest) AS (
             VALUES (?1)
             UNION SELECT l.target FROM links l JOIN used u ON l.manifest = u.digest WHERE l.kind = 'blob'
             UNION SELECT a.manifest FROM attachments a JOIN used u ON a.subject = u.digest)
           UPDATE blobs SET used_at = ?3, heat = heat_after(heat, ?2, ?3) WHERE digest IN used`,
          digest,
          uses,
          now,
        );
      }
    });
  }
}
