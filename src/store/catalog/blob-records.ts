import { LRUCache } from 'lru-cache';
import { isElsewhere, type ManifestLinks } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import { octetStream } from '../../oci/media-types.ts';
import type { Database } from './database.ts';
import type { GrantRecords } from './grant-records.ts';
import type { ImageGraph } from './image-graph.ts';
import type { PinRecords } from './pin-records.ts';
import type { UseRecords } from './use-records.ts';

/** What is known of a stored blob. */
export interface BlobRecord {
  readonly size: number;
  /** The exact `Content-Type` it came with. */
  readonly contentType: string;
  /** The time of its file when its content was last known to be right, in milliseconds; `undefined`: it never was. */
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

/** Where a manifest came from: its upstream, another replica, or an archive. */
export type ManifestSource = 'upstream' | 'replica' | 'archive';

/** A manifest that has just been verified. */
export interface NewManifest extends BlobRecord {
  /** Absent: nobody knows any more. */
  readonly source?: ManifestSource;
  /** The repository it came through, as the cache names it. */
  readonly repository: string;
  readonly links: ManifestLinks;
  /** When it was last used, in milliseconds since 1970 (default: now). */
  readonly usedAtMs?: number;
}

/** A file under `blobs/` that the catalog did not know. */
export interface FoundBlob {
  readonly size: number;
  /** As of {@link BlobRecord}. */
  readonly modifiedAtMs?: number;
  readonly usedAtMs: number;
}

interface BlobRecordsOptions {
  readonly grants: GrantRecords;
  readonly graph: ImageGraph;
  readonly pins: PinRecords;
  readonly uses: UseRecords;
  readonly now: () => number;
}

/** The blobs on this disk, and which of them are manifests. Reads come from bounded memory first. */
export class BlobRecords {
  readonly #database: Database;
  readonly #grants: GrantRecords;
  readonly #now: () => number;
  readonly #blobs = new LRUCache<Digest, BlobRecord>({ max: 50_000 });
  readonly #manifests = new LRUCache<Digest, true>({ max: 50_000 });
  readonly #graph: ImageGraph;
  readonly #pins: PinRecords;
  readonly #uses: UseRecords;

  constructor(database: Database, { grants, graph, pins, uses, now }: BlobRecordsOptions) {
    this.#database = database;
    this.#grants = grants;
    this.#graph = graph;
    this.#pins = pins;
    this.#uses = uses;
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

  /** How many blobs are known to be stored, manifests among them, their bytes in all, and those of what is pinned. */
  usage(): { blobs: number; bytes: number; pinnedBytes: number } {
    const row = this.#database.get('SELECT blobs, bytes, pinned_bytes FROM totals');
    const [blobs, bytes, pinnedBytes] = ['blobs', 'bytes', 'pinned_bytes'].map((name) => Number(row?.[name] ?? 0));
    return { blobs: blobs ?? 0, bytes: bytes ?? 0, pinnedBytes: pinnedBytes ?? 0 };
  }

  /** Records a blob that has just been stored. */
  record(digest: Digest, { size, contentType, modifiedAtMs }: BlobRecord, usedAtMs = this.#now()): void {
    this.#blobs.set(digest, { size, contentType, modifiedAtMs });
    this.#database.write(() => {
      this.#database.run(
        `INSERT INTO blobs (digest, size, content_type, stored_at, used_at, heat, recent, modified_at)
         VALUES (?1, ?2, ?3, ?4, ?4, ?6, 1, ?5)
         ON CONFLICT DO UPDATE SET size = excluded.size, content_type = excluded.content_type, used_at = excluded.used_at,
           heat = heat_after(heat, 1, ?4), recent = 1, modified_at = excluded.modified_at`,
        digest,
        size,
        contentType,
        usedAtMs,
        modifiedAtMs ?? null,
        this.#uses.firstHeat(digest, usedAtMs),
      );
      this.#uses.settleRecent();
      this.#pins.stored(digest);
    });
  }

  /** Records a blob that was found on disk, with the type that is remembered of it; what is known by now stays. */
  adopt(digest: Digest, { size, modifiedAtMs, usedAtMs }: FoundBlob): void {
    this.#database.write(() => {
      this.#database.run(
        `INSERT OR IGNORE INTO blobs (digest, size, content_type, stored_at, used_at, heat, modified_at)
         VALUES (?1, ?2, COALESCE((SELECT content_type FROM remembered WHERE digest = ?1), ?3), ?4, ?4, ?6, ?5)`,
        digest,
        size,
        octetStream,
        usedAtMs,
        modifiedAtMs ?? null,
        this.#uses.firstHeat(digest, usedAtMs),
      );
      this.#pins.stored(digest);
    });
  }

  /** Notes of which time a file is whose content is right. */
  noteRight(digest: Digest, { size, modifiedAtMs }: { size: number; modifiedAtMs: number }): void {
    const known = this.#blobs.peek(digest);
    if (known) this.#blobs.set(digest, { ...known, size, modifiedAtMs });
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
  recordManifest(digest: Digest, { repository, size, contentType, links, source, usedAtMs }: NewManifest): void {
    this.record(digest, { size, contentType }, usedAtMs);
    this.#manifests.set(digest, true);
    const targets = [
      ...links.manifests.map((target) => ({ ...target, kind: 'manifest' })),
      ...links.blobs.map((target) => ({ ...target, kind: isElsewhere(target) ? 'elsewhere' : 'blob' })),
    ];
    this.#grants.forgetParts(digest);
    this.#grants.grantManifest(repository, digest, targets);
    this.#database.write(() => {
      const { subject, artifactType, annotations, mediaType } = links;
      this.#database.run(
        'INSERT OR REPLACE INTO manifests VALUES (?, ?, ?, ?, ?, ?)',
        digest,
        mediaType,
        artifactType ?? null,
        subject?.digest ?? null,
        annotations ? JSON.stringify(annotations) : null,
        source ?? null,
      );
      for (const target of targets) {
        this.#database.run(
          'INSERT OR REPLACE INTO links VALUES (?, ?, ?, ?)',
          digest,
          target.digest,
          target.kind,
          target.size,
        );
      }
      if (subject) this.#graph.warm(digest, repository);
      this.#uses.usePartsOf(digest, usedAtMs ?? this.#now());
      this.#pins.stored(digest);
    });
  }

  /** As {@link recordManifest}, for one that came through another repository and is this one's, too. */
  shareManifest(digest: Digest, repository: string): void {
    const links = this.#database.all('SELECT target, size FROM links WHERE manifest = ?', digest);
    const parts = links.map((row) => ({ digest: row['target'] as Digest, size: Number(row['size']) }));
    this.#grants.grantManifest(repository, digest, parts);
    this.#database.write(() => {
      const row = this.#database.get('SELECT subject FROM manifests WHERE digest = ?', digest);
      if (typeof row?.['subject'] === 'string') this.#graph.warm(digest, repository);
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

  /** Forgets in memory what the tables do not have any more. */
  drop(digest: Digest): void {
    this.#blobs.delete(digest);
    this.#manifests.delete(digest);
    this.#grants.forgetParts(digest);
  }

  /** Forgets a blob whose file is gone. */
  forget(digest: Digest): void {
    this.#blobs.delete(digest);
    this.#database.write(() => this.#database.run('DELETE FROM blobs WHERE digest = ?', digest));
  }

  /** Forgets that a blob is a manifest, and what it names. To be called within a write of the database. */
  forgetManifest(digest: Digest): void {
    this.#manifests.delete(digest);
    this.#grants.forgetParts(digest);
    this.#database.run('DELETE FROM manifests WHERE digest = ?', digest);
    this.#database.run('DELETE FROM links WHERE manifest = ?', digest);
  }
}
