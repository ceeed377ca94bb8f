import type { Digest } from '../../oci/digest.ts';
import { earliestMs, greatestHeat, heatAfter, heatLasted, heatSetBack, recentShare } from '../eviction-policy.ts';
import type { Database } from './database.ts';
import type { ImageGraph } from './image-graph.ts';
import { digestIn, number, optionalNumber } from './row.ts';

/** Duration of one batch of writes, in milliseconds, before other work has its turn. */
const flushMs = 2;
/** Blobs that come to the disk before it is settled again which are recent. */
const settleEvery = 32;
/** Rows examined at a time when some are no longer recent, and the maximum number of repetitions. */
const rowsPerLook = 8;
const mostLooks = 16;
/** Rows corrected at a time after the clock was set back. */
const rowsPerStep = 40;

/** How much of what an image needs is written in one piece; the rest of a larger one has its turn later. */
const partsAtOnce = 200;
/** Attachments of attachments that are followed for such an image. */
const maxDepth = 3;

const useOne = `UPDATE blobs SET used_at = MAX(used_at, ?3), recent = 1, heat = heat_after(heat, ?2, ?3) WHERE digest = ?1`;

/** A manifest that names much, of which the parts up to one have been written as used. */
interface LargeUse {
  readonly manifest: Digest;
  readonly uses: number;
  readonly nowMs: number;
  after: string;
}

export interface UseRecordsOptions {
  readonly graph: ImageGraph;
  readonly now: () => number;
  /** Called with each use. */
  readonly onUse: ((digest: Digest) => void) | undefined;
}

/** The frequency and recency of use: heat, and what counts as recent. */
export class UseRecords {
  readonly #database: Database;
  readonly #graph: ImageGraph;
  readonly #now: () => number;
  readonly #onUse: ((digest: Digest) => void) | undefined;
  /** How often each blob was used since that was last written. */
  readonly #used = new Map<Digest, number>();
  readonly #large = new Map<Digest, LargeUse>();
  /** Uses that have ended since that was last written, with the time. */
  readonly #lasted = new Map<Digest, number>();
  #unsettled = 0;

  constructor(database: Database, { graph, now, onUse }: UseRecordsOptions) {
    this.#database = database;
    this.#graph = graph;
    this.#now = now;
    this.#onUse = onUse;
  }

  /** Records a use of a blob; written in batches by {@link flush}. */
  touch(digest: Digest): void {
    this.#used.set(digest, (this.#used.get(digest) ?? 0) + 1);
    this.#onUse?.(digest);
  }

  /**
   * The last use of blobs has lasted until now, or until some milliseconds ago: an image is used until all of it has been
   * received, and what ended last is evicted last.
   */
  lasted(digests: Iterable<Digest>, agoMs: number): void {
    const endMs = this.#now() - agoMs;
    for (const digest of digests) {
      this.#lasted.delete(digest);
      this.#lasted.set(digest, endMs);
    }
  }

  /** Whether a use of a blob has yet to be written. */
  isTouched(digest: Digest): boolean {
    return this.#used.has(digest) || this.#lasted.has(digest);
  }

  /** Writes what {@link touch} has noted, at once: as much of it as takes a few milliseconds. @returns whether there is more */
  flush(): boolean {
    return this.#flush({ everything: false });
  }

  /** As {@link flush}, all of it. */
  flushAll(): void {
    this.#flush({ everything: true });
  }

  #flush({ everything }: { everything: boolean }): boolean {
    if (this.#used.size === 0 && this.#large.size === 0 && this.#lasted.size === 0 && this.#unsettled === 0)
      return false;
    const now = this.#now();
    this.#database.write(() => {
      const endMs = everything ? Number.POSITIVE_INFINITY : performance.now() + flushMs;
      for (const [digest, uses] of this.#used) {
        this.#used.delete(digest);
        this.#use(digest, uses, now);
        if (performance.now() >= endMs) break;
      }
      // One slice at a time: rows are what holds up others, however fast they are written.
      for (const use of this.#large.values()) {
        do this.#useSome(use);
        while (endMs === Number.POSITIVE_INFINITY && this.#large.has(use.manifest));
        if (endMs !== Number.POSITIVE_INFINITY) break;
      }
      // After the uses that they were.
      for (const [digest, lastedUntilMs] of this.#used.size === 0 ? this.#lasted : []) {
        this.#lasted.delete(digest);
        this.#last(digest, lastedUntilMs);
        if (performance.now() >= endMs) break;
      }
      this.settleRecent();
    });
    this.#database.flush();
    return this.#used.size > 0 || this.#large.size > 0 || this.#lasted.size > 0;
  }

  /**
   * The heat of a blob that comes to the disk: its heat when it was evicted and one use more, and no less than that of
   * the manifests that need it. To be called within a write of the database.
   */
  firstHeat(digest: Digest, nowMs: number): number {
    const before = this.#database.get('SELECT heat FROM evicted WHERE digest = ?', digest);
    if (before !== undefined) this.#database.run('DELETE FROM evicted WHERE digest = ?', digest);
    const above = this.#database.get(
      `SELECT MAX(heat) AS heat FROM blobs WHERE digest IN (
         SELECT manifest FROM links WHERE target = ?1 UNION SELECT subject FROM attachments WHERE manifest = ?1)`,
      digest,
    );
    const remembered = optionalNumber(before, 'heat');
    const isAhead = remembered !== undefined && remembered > greatestHeat(this.#now());
    const heat = heatAfter(isAhead ? undefined : remembered, 1, nowMs);
    return Math.max(heat, optionalNumber(above, 'heat') ?? heat);
  }

  /** A manifest has come to the disk: what it needs of what is here is used. To be called within a write of the database. */
  usePartsOf(manifest: Digest, nowMs: number): void {
    this.#useImage(manifest, { uses: 1, nowMs, isItselfUsed: false });
    this.settleRecent();
  }

  /** As {@link settleRecent}, with others that come now. To be called within a write of the database. */
  settleSoon(): void {
    this.#unsettled += 1;
    if (this.#unsettled >= settleEvery) this.settleRecent();
  }

  /**
   * Of what is recent, what was used longest ago is not any more, until only a share of all bytes is; where that would
   * take long, the next call goes on. To be called within a write of the database.
   */
  settleRecent(): void {
    this.#unsettled = 0;
    const totals = this.#database.get('SELECT bytes, recent_bytes FROM totals');
    let excess = number(totals, 'recent_bytes') - number(totals, 'bytes') * recentShare;
    for (let look = 0; excess > 0 && look < mostLooks; look += 1) {
      // A blob used just now is recent, whatever its size.
      const oldest = this.#database.all(
        `SELECT digest, size FROM blobs WHERE recent = 1 AND used_at < (SELECT MAX(used_at) FROM blobs WHERE recent = 1)
         ORDER BY used_at LIMIT ${rowsPerLook}`,
      );
      if (oldest.length === 0) return;
      for (const row of oldest) {
        if (excess <= 0) return;
        this.#database.run('UPDATE blobs SET recent = 0 WHERE digest = ?', digestIn(row));
        excess -= number(row, 'size');
      }
    }
  }

  /**
   * Corrects, at once, some of the uses that a clock noted which was ahead and has been set back: those blobs would stay until
   * that time has come, and blobs that are pulled now would be evicted. They count as used now.
   * @returns whether there is more @throws Error where the catalog cannot be written
   */
  setClockBack(): boolean {
    const now = this.#now();
    if (now < earliestMs) return false;
    const greatest = greatestHeat(now);
    // By two indexes, and of the warmest only: mostly there is nothing to be done.
    const ahead = this.#database.all(
      `SELECT * FROM (SELECT digest, used_at, heat FROM blobs WHERE recent = 1 AND used_at > ?1 LIMIT ?3)
       UNION ALL SELECT * FROM (SELECT digest, used_at, heat FROM blobs WHERE pinned = 0 AND recent = 0
         ORDER BY heat DESC LIMIT ?3) WHERE used_at > ?1 OR heat > ?2`,
      now,
      greatest,
      rowsPerStep,
    );
    if (ahead.length === 0) return false;
    this.#database.writeNow(() => {
      for (const row of ahead) {
        const heat = heatSetBack(number(row, 'heat'), { aheadMs: number(row, 'used_at') - now, nowMs: now });
        this.#database.run(
          'UPDATE blobs SET heat = ?3, used_at = MIN(used_at, ?2) WHERE digest = ?1',
          digestIn(row),
          now,
          heat,
        );
      }
    });
    return true;
  }

  #last(digest: Digest, endMs: number): void {
    const row = this.#database.get('SELECT heat, used_at FROM blobs WHERE digest = ?', digest);
    if (row === undefined) return;
    this.#database.run(
      'UPDATE blobs SET heat = ?2, used_at = MAX(used_at, CAST(?3 AS INTEGER)) WHERE digest = ?1',
      digest,
      heatLasted(number(row, 'heat'), { usedAtMs: number(row, 'used_at'), endMs }),
      endMs,
    );
  }

  #use(digest: Digest, uses: number, nowMs: number): void {
    if (this.#graph.isManifest(digest)) {
      this.#useImage(digest, { uses, nowMs, isItselfUsed: true });
      return;
    }
    // The manifest says how often an image is used; a layer may be read in any number of parts.
    this.#database.run(
      'UPDATE blobs SET used_at = ?2, recent = 1, heat = MAX(heat, heat_after(NULL, 1, ?2)) WHERE digest = ?1',
      digest,
      nowMs,
    );
  }

  #useImage(
    manifest: Digest,
    { uses, nowMs, isItselfUsed }: { uses: number; nowMs: number; isItselfUsed: boolean },
    depth = 0,
  ): void {
    const isLarge = this.#database.get(
      `SELECT 1 FROM links WHERE manifest = ? LIMIT 1 OFFSET ${partsAtOnce}`,
      manifest,
    );
    if (isLarge !== undefined) {
      if (isItselfUsed) this.#database.run(useOne, manifest, uses, nowMs);
      this.#large.set(manifest, { manifest, uses: uses + (this.#large.get(manifest)?.uses ?? 0), nowMs, after: '' });
      for (const attachment of depth < maxDepth ? this.#attachments(manifest) : []) {
        this.#useImage(attachment, { uses, nowMs, isItselfUsed: true }, depth + 1);
      }
      return;
    }
    // An image is used as a whole, with its attachments; an index only names images, of which one is used.
    this.#database.run(
      `WITH RECURSIVE used(digest) AS (
         VALUES (?1)
         UNION SELECT l.target FROM links l JOIN used u ON l.manifest = u.digest WHERE l.kind = 'blob'
         UNION SELECT a.manifest FROM tag_attachments a JOIN used u ON a.subject = u.digest
         UNION SELECT a.manifest FROM subject_attachments a JOIN used u ON a.subject = u.digest)
       UPDATE blobs SET used_at = MAX(used_at, ?3), recent = 1, heat = heat_after(heat, ?2, ?3) WHERE digest IN used AND (?4 OR digest <> ?1)`,
      manifest,
      uses,
      nowMs,
      isItselfUsed ? 1 : 0,
    );
  }

  /** Writes the use of some of the parts of a manifest that names many. */
  #useSome(use: LargeUse): void {
    const { manifest, uses, nowMs } = use;
    const rows = this.#database.all(
      `SELECT target AS digest FROM links WHERE manifest = ? AND target > ? AND kind = 'blob' ORDER BY target LIMIT ${partsAtOnce}`,
      manifest,
      use.after,
    );
    for (const row of rows) this.#database.run(useOne, digestIn(row), uses, nowMs);
    const last = rows.at(-1);
    if (last === undefined || rows.length < partsAtOnce) this.#large.delete(manifest);
    else use.after = digestIn(last);
  }

  #attachments(manifest: Digest): Digest[] {
    const rows = this.#database.all(
      `SELECT DISTINCT manifest AS digest FROM attachments WHERE subject = ? LIMIT ${partsAtOnce}`,
      manifest,
    );
    return rows.map((row) => digestIn(row));
  }
}
