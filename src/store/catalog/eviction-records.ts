import type { Digest } from '../../oci/digest.ts';
import { rememberedEvictions, sharedHeat } from '../eviction-policy.ts';
import type { BlobRecords } from './blob-records.ts';
import type { Database } from './database.ts';
import type { GrantRecords } from './grant-records.ts';
import type { ImageGraph } from './image-graph.ts';
import type { ManifestRecords } from './manifest-records.ts';
import type { ManyParts } from './many-parts.ts';
import type { NameJournal } from './name-journal.ts';
import { digestIn, isSet, number } from './row.ts';
import type { TagKey, TagRecords } from './tag-records.ts';
import type { UseRecords } from './use-records.ts';

/** A stored blob that may be evicted. */
export interface Evictable {
  readonly digest: Digest;
  readonly size: number;
}

/** The records that are forgotten with a blob. */
interface Forgotten {
  /** The tags that stood for it. */
  readonly tags: readonly TagKey[];
  /** Rights to read: of the blob itself, and of what only it has named. */
  readonly grants: readonly { readonly repository: string; readonly digest: Digest }[];
}

/** More than this goes in one go only where nothing less leaves what is whole. */
const maxGroup = 32;
const mostAtOnce = 1000;
/** Most blobs that go with a group because nothing needs them any more: what is left of them is the first to go next. */
const mostLeft = 200;

export interface EvictionRecordsOptions {
  readonly blobs: BlobRecords;
  readonly tags: TagRecords;
  readonly grants: GrantRecords;
  readonly manifests: ManifestRecords;
  readonly parts: ManyParts;
  readonly graph: ImageGraph;
  readonly journal: NameJournal;
  readonly uses: UseRecords;
  readonly now: () => number;
}

/** The order of eviction, the groups that are evicted together, and the records that are forgotten with them. */
export class EvictionRecords {
  readonly #database: Database;
  readonly #options: EvictionRecordsOptions;

  constructor(database: Database, options: EvictionRecordsOptions) {
    this.#database = database;
    this.#options = options;
  }

  /**
   * The blobs to evict next: those that no image needs, then the others, each the coldest first; the ones that were used
   * last only where nothing else is left, pinned ones never.
   */
  coldest(limit: number): Evictable[] {
    const found: Evictable[] = [];
    for (const order of [
      'pinned = 0 AND needed = 0 ORDER BY heat',
      'pinned = 0 AND recent = 0 AND needed = 1 ORDER BY heat',
      'recent = 1 AND pinned = 0 AND needed = 1 ORDER BY used_at',
    ]) {
      if (found.length === limit) break;
      const rows = this.#database.all(`SELECT digest, size FROM blobs WHERE ${order} LIMIT ?`, limit - found.length);
      for (const row of rows) found.push({ digest: digestIn(row), size: number(row, 'size') });
    }
    return found;
  }

  /**
   * A blob with everything that is evicted before it: the stored manifests that name it, their own attachments, and the
   * subjects of these; an index only with the last of its images. In the order of removal, a layer last. If that is too
   * much for one step, one of the manifests with as many of its attachments as there is room for. Empty where one of
   * them is pinned.
   */
  group(digest: Digest): Evictable[] {
    const whole = this.#collect(digest, maxGroup);
    if (whole !== undefined) return whole;
    // The first one may need others to go before it: down to one that can go by itself.
    const tried = new Set<Digest>();
    let first = this.#naming(digest, new Map())[0] ?? digest;
    while (!tried.has(first)) {
      const group = this.#collect(first, mostAtOnce);
      if (group !== undefined) return group;
      tried.add(first);
      first = this.#naming(first, new Map())[0] ?? first;
    }
    const row = this.#database.get('SELECT size FROM blobs WHERE digest = ? AND pinned = 0', first);
    return row === undefined ? [] : [{ digest: first, size: number(row, 'size') }];
  }

  /** @returns `undefined` where there are more than `limit` */
  #collect(digest: Digest, limit: number): Evictable[] | undefined {
    const found = new Map<Digest, Evictable>();
    const attached = new Set<Digest>();
    const open: Digest[] = [digest];
    const along: Digest[] = [];
    while (true) {
      const isAlong = open.length === 0;
      const next = open.shift() ?? along.shift();
      if (next === undefined) break;
      if (found.has(next) || (isAlong && this.#goesWithAnother(next, found))) continue;
      const row = this.#database.get('SELECT size, pinned FROM blobs WHERE digest = ?', next);
      if (row === undefined) continue;
      if (isSet(row, 'pinned')) {
        if (isAlong) continue;
        return [];
      }
      if (found.size === limit) {
        // With what goes along the image itself could never go: the rest of it goes later, by itself.
        if (isAlong && limit === mostAtOnce) break;
        return undefined;
      }
      found.set(next, { digest: next, size: number(row, 'size') });
      const attachments = this.#digests(
        `SELECT DISTINCT manifest AS digest FROM attachments WHERE subject = ? LIMIT ${mostAtOnce}`,
        next,
      );
      for (const manifest of attachments) attached.add(manifest);
      open.push(...this.#naming(next, found));
      along.push(...attachments);
      // Each of them is stored, and each once.
      if (next === digest && open.length >= limit) return undefined;
    }
    // Farthest first: an index before its images. What is attached never goes before what it belongs to, and what no
    // manifest is goes last.
    const farthestFirst = [...found.values()].toReversed();
    const last = this.#options.graph.isManifest(digest) ? undefined : digest;
    const rank = (one: Evictable): number => (one.digest === last ? 2 : attached.has(one.digest) ? 1 : 0);
    return farthestFirst.toSorted((one, other) => rank(one) - rank(other));
  }

  /** Whether a manifest is attached to something stored that does not go. */
  #goesWithAnother(manifest: Digest, going: ReadonlyMap<Digest, unknown>): boolean {
    return this.#database.some(
      'SELECT a.subject AS digest FROM attachments a JOIN blobs b ON b.digest = a.subject WHERE a.manifest = ?',
      (row) => !going.has(digestIn(row)),
      manifest,
    );
  }

  /**
   * The stored manifests that would lack a digest, the coldest first, and the subjects that it is attached to; not those
   * that are pinned without it.
   */
  #naming(digest: Digest, going: ReadonlyMap<Digest, unknown>): Digest[] {
    const images = this.#digests(
      `SELECT digest FROM blobs WHERE digest IN (
         SELECT manifest FROM links WHERE target = ?1 AND kind = 'blob'
         UNION SELECT a.subject FROM attachments a JOIN blobs s ON s.digest = a.subject WHERE a.manifest = ?1 AND s.pinned = 0)
       ORDER BY heat LIMIT ${mostAtOnce}`,
      digest,
    );
    const indexes = this.#digests(
      `SELECT l.manifest AS digest FROM links l JOIN blobs b ON b.digest = l.manifest
       WHERE l.target = ? AND l.kind = 'manifest' LIMIT ${mostAtOnce}`,
      digest,
    ).filter((index) =>
      // Which of its images a client takes is not known: it is of use as long as one is here.
      this.#digests(
        'SELECT l.target AS digest FROM links l JOIN blobs b ON b.digest = l.target WHERE l.manifest = ?',
        index,
      ).every((child) => child === digest || going.has(child)),
    );
    return [...images, ...indexes];
  }

  /**
   * The blobs that no image needs any more once all of a group has gone, at most some: they go with it, unless they were
   * used clearly more often.
   */
  left(group: readonly Evictable[]): Evictable[] {
    const going = new Set(group.map(({ digest }) => digest));
    const left = new Map<Digest, Evictable>();
    for (const { digest: manifest } of group) {
      const rows = this.#database.all(
        `SELECT l.target, b.size FROM blobs m JOIN links l ON l.manifest = m.digest JOIN blobs b ON b.digest = l.target
         WHERE m.digest = ? AND l.kind <> 'manifest' AND b.pinned = 0 AND b.heat <= m.heat + ${sharedHeat} LIMIT ${mostLeft}`,
        manifest,
      );
      for (const row of rows) {
        const digest = digestIn(row, 'target');
        if (going.has(digest) || left.has(digest) || left.size >= mostLeft) continue;
        if (this.#options.graph.isNamed(digest, (other) => !going.has(other))) continue;
        left.set(digest, { digest, size: number(row, 'size') });
      }
    }
    return [...left.values()];
  }

  /** Whether no manifest that is known needs a stored blob. */
  isUnneeded(digest: Digest): boolean {
    return this.#database.get('SELECT 1 FROM blobs WHERE digest = ? AND needed = 0', digest) !== undefined;
  }

  /** Whether a use of a blob has yet to be written. */
  isTouched(digest: Digest): boolean {
    return this.#options.uses.isTouched(digest);
  }

  /**
   * Forgets, at once, a blob that was evicted and everything that was known only because of it; its heat is remembered.
   * @throws Error where the catalog cannot be written: nothing is forgotten then
   */
  forget(digest: Digest): void {
    const { blobs, manifests, tags, grants, journal, now } = this.#options;
    let forgotten: Forgotten = { tags: [], grants: [] };
    this.#database.writeNow(() => {
      forgotten = this.#remove(digest);
    });
    blobs.drop(digest);
    manifests.drop(digest);
    for (const key of forgotten.tags) {
      journal.add({ kind: 'tag gone', ...key, atMs: now() });
      tags.drop(key);
    }
    for (const grant of forgotten.grants) grants.drop(grant.repository, grant.digest);
  }

  #remove(digest: Digest): Forgotten {
    const { tags, graph, grants, parts } = this.#options;
    const standing = tags.standingFor(digest);
    const isMany = parts.isMany(digest);
    const named = [digest, ...(isMany ? [] : graph.named(digest).map((part) => part.digest))];
    this.#database.run(
      'INSERT OR REPLACE INTO evicted (digest, heat) SELECT digest, heat FROM blobs WHERE digest = ?',
      digest,
    );
    this.#database.run(`DELETE FROM evicted WHERE id <= (SELECT MAX(id) FROM evicted) - ${rememberedEvictions}`);
    this.#database.run('DELETE FROM blobs WHERE digest = ?', digest);
    if (isMany) {
      graph.removeAlone(digest);
      parts.leave(digest);
    } else {
      graph.remove(digest);
    }
    this.#database.run('DELETE FROM tags WHERE digest = ?', digest);
    return {
      tags: standing,
      grants: named.flatMap((one) => grants.removeUnneeded(one)),
    };
  }

  #digests(sql: string, digest: Digest): Digest[] {
    return this.#database.all(sql, digest).map((row) => digestIn(row));
  }
}
