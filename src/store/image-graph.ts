import { type Digest, isDigest } from '../oci/digest.ts';
import type { Database } from './database.ts';

/** Something that an image consists of, or that goes with it. */
export interface ImagePart {
  readonly digest: Digest;
  /** Bytes, as stored or as its manifest says; `undefined` where nobody has said. */
  readonly size: number | undefined;
  readonly isManifest: boolean;
  readonly isStored: boolean;
}

/** Everything a manifest needs, and what goes with it: children, config, layers, referrers, and theirs. */
const closure = `
WITH RECURSIVE need(digest) AS (
  VALUES (?1)
  UNION SELECT l.target FROM links l JOIN need n ON l.manifest = n.digest
  UNION SELECT a.manifest FROM attachments a JOIN need n ON a.subject = n.digest
)`;

/** What manifests name and what is attached to them: the images, their parts, and what they share. */
export class ImageGraph {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** Notes that a manifest goes with another one. */
  attach(subject: Digest, manifest: Digest): void {
    if (subject === manifest) return;
    this.#database.write(() => {
      this.#database.run('INSERT OR IGNORE INTO attachments VALUES (?, ?)', subject, manifest);
      // It is never evicted before its subject.
      this.#database.run(
        `${closure} UPDATE blobs SET heat = MAX(heat, (SELECT heat FROM blobs WHERE digest = ?2))
         WHERE digest IN need AND EXISTS (SELECT 1 FROM blobs WHERE digest = ?2)`,
        manifest,
        subject,
      );
      this.#inheritPin(manifest);
    });
  }

  /** A manifest itself, all that it names and all that goes with it, whether it is stored or not; each once. */
  parts(manifest: Digest): ImagePart[] {
    // Of the manifests that name a part, one is looked at: a layer may belong to every image there is.
    const rows = this.#database.all(
      `${closure} SELECT n.digest, b.size, m.digest IS NOT NULL AS is_manifest,
         CASE WHEN b.size IS NULL THEN (SELECT size FROM links WHERE target = n.digest LIMIT 1) END AS named_size,
         m.digest IS NULL AND (SELECT kind FROM links WHERE target = n.digest LIMIT 1) = 'manifest' AS is_child
       FROM need n LEFT JOIN blobs b ON b.digest = n.digest LEFT JOIN manifests m ON m.digest = n.digest`,
      manifest,
    );
    return rows.map((row) => {
      const size = row['size'] ?? row['named_size'];
      return {
        digest: row['digest'] as Digest,
        size: size === null || size === undefined || Number(size) < 0 ? undefined : Number(size),
        isManifest: row['is_manifest'] === 1 || row['is_child'] === 1,
        isStored: row['size'] !== null,
      };
    });
  }

  /**
   * What is reached through a manifest alone: itself and its parts, less what something else holds and what that needs.
   * @param isHeld whether something beside `parts` holds one of them
   * @param all its parts, where the caller has them
   */
  own(
    manifest: Digest,
    isHeld: (digest: Digest, parts: ReadonlyMap<Digest, ImagePart>) => boolean,
    all: readonly ImagePart[] = this.parts(manifest),
  ): ImagePart[] {
    const parts = new Map(all.map((part) => [part.digest, part]));
    const held = new Set<Digest>();
    for (const { digest, isManifest } of parts.values()) {
      if (held.has(digest) || !isHeld(digest, parts)) continue;
      held.add(digest);
      if (isManifest) for (const part of this.parts(digest)) held.add(part.digest);
    }
    return [...parts.values()].filter(({ digest }) => !held.has(digest));
  }

  /** As {@link isNeeded}, of the manifests that name it alone. */
  isNamed(digest: Digest, isWanted: (manifest: Digest) => boolean): boolean {
    return this.#database.some(
      'SELECT l.manifest AS digest FROM links l JOIN blobs b ON b.digest = l.manifest WHERE l.target = ?',
      (row) => isWanted(row['digest'] as Digest),
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
      (row) => isWanted(row['digest'] as Digest),
      digest,
    );
  }

  /** The manifests that go with another one, stored or not. */
  attachments(subject: Digest): Digest[] {
    const rows = this.#database.all('SELECT manifest FROM attachments WHERE subject = ? ORDER BY manifest', subject);
    return rows.map((row) => row['manifest'] as Digest);
  }

  /** The stored manifests that name a digest: those of images for a config or layer, indexes for a manifest. */
  parents(digest: Digest): Digest[] {
    const rows = this.#database.all(
      'SELECT l.manifest FROM links l JOIN blobs b ON b.digest = l.manifest WHERE l.target = ? ORDER BY l.manifest',
      digest,
    );
    return rows.map((row) => row['manifest'] as Digest);
  }

  /** Pins a manifest and its parts. To be called within a write of the database. */
  pin(manifest: Digest): void {
    this.#database.run(`${closure} UPDATE blobs SET pinned = 1 WHERE pinned = 0 AND digest IN need`, manifest);
  }

  /** Whether one of the pinned manifests that name a digest, or that it goes with, is none of these. */
  isHeldByPin(digest: Digest, parts: ReadonlyMap<Digest, ImagePart>): boolean {
    return this.#database.some(
      `SELECT l.manifest AS digest FROM links l JOIN blobs b ON b.digest = l.manifest WHERE l.target = ?1 AND b.pinned = 1
       UNION ALL SELECT a.subject FROM attachments a JOIN blobs b ON b.digest = a.subject
         WHERE a.manifest = ?1 AND b.pinned = 1`,
      (row) => !parts.has(row['digest'] as Digest),
      digest,
    );
  }

  /** Frees a blob. To be called within a write of the database. */
  unpin(digest: Digest): void {
    this.#database.run('UPDATE blobs SET pinned = 0 WHERE digest = ? AND pinned = 1', digest);
  }

  /** Frees everything. To be called within a write of the database. */
  unpinAll(): void {
    this.#database.run('UPDATE blobs SET pinned = 0 WHERE pinned = 1');
  }

  /** What has come to belong to something pinned is pinned with it. To be called within a write of the database. */
  inheritPin(digest: Digest): void {
    this.#inheritPin(digest);
  }

  #inheritPin(digest: Digest): void {
    const held = this.#database.get(
      `SELECT 1 FROM blobs b WHERE b.pinned = 1 AND (b.digest = ?1
         OR b.digest IN (SELECT manifest FROM links WHERE target = ?1)
         OR b.digest IN (SELECT subject FROM attachments WHERE manifest = ?1)) LIMIT 1`,
      digest,
    );
    if (held) this.pin(digest);
  }
}

const attachedTag = /^(sha256|sha512)-([0-9a-f]{64}|[0-9a-f]{128})(?:\.(?:sig|att|sbom))?$/;

/**
 * The manifest that a tag belongs to by its name: cosign's signatures, attestations and SBOMs, and the referrers tag
 * (distribution-spec, "Referrers Tag Schema"; of a sha512 digest, which it cuts short, only where it is whole).
 */
export function subjectOfTag(tag: string): Digest | undefined {
  const [, algorithm, hex] = attachedTag.exec(tag) ?? [];
  const digest = `${algorithm}:${hex}`;
  return algorithm !== undefined && isDigest(digest) ? digest : undefined;
}
