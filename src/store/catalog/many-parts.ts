import { setImmediate as nextTurn } from 'node:timers/promises';
import type { ManifestLinks } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import type { Database } from './database.ts';
import type { GrantRecords } from './grant-records.ts';
import { type ImageGraph } from './image-graph.ts';
import { linksOf } from './image-parts.ts';
import { text } from './row.ts';

/** The most parts of a manifest that are written or deleted in one turn of the event loop. */
export const partsPerTurn = 200;

/** Begins the name of a note: the parts of this manifest are in the tables, and the manifest itself may not be. */
const notePrefix = 'parts of ';

export interface ManyPartsOptions {
  readonly graph: ImageGraph;
  readonly grants: GrantRecords;
}

/**
 * Writes and deletes the parts of manifests that name more than {@link partsPerTurn}, a slice per turn of the event loop:
 * before such a manifest becomes visible, by one row, and after it is gone. A note says so meanwhile; what a killed
 * process leaves is deleted after the next start.
 */
export class ManyParts implements Disposable {
  readonly #database: Database;
  readonly #options: ManyPartsOptions;
  /** By repository and manifest: whether all parts have been written for a record that is about to come. */
  readonly #written = new Map<string, boolean>();
  /** Manifests that are gone, and whose parts are still to be deleted. */
  readonly #leaving = new Set<Digest>();
  #sweeping: Promise<void> | undefined;
  #isEnded = false;

  constructor(database: Database, options: ManyPartsOptions) {
    this.#database = database;
    this.#options = options;
  }

  /** Whether a manifest that is in the tables names more than can be handled in one turn. */
  isMany(manifest: Digest): boolean {
    const row = this.#database.get(`SELECT 1 FROM links WHERE manifest = ? LIMIT 1 OFFSET ${partsPerTurn}`, manifest);
    return row !== undefined;
  }

  /** Writes what a manifest names, and a repository's right to it, before the manifest is recorded there. */
  async write(repository: string, manifest: Digest, links: ManifestLinks): Promise<void> {
    const { graph, grants } = this.#options;
    const parts = links.manifests.length + links.blobs.length > partsPerTurn ? distinct(links) : [];
    if (parts.length <= partsPerTurn || this.#isEntire(repository, manifest)) return;
    const key = this.#begin(repository, manifest);
    for (let start = 0; start < parts.length && !this.#isEnded; start += partsPerTurn) {
      const some = parts.slice(start, start + partsPerTurn);
      this.#database.write(() => graph.addLinks(manifest, some));
      grants.addParts(
        repository,
        some.filter(({ kind }) => kind !== 'elsewhere'),
      );
      await nextTurn();
    }
    this.#end(key);
  }

  /** Writes a repository's right to what a manifest that is in the tables names, before the manifest is shared with it. */
  async writeRights(repository: string, manifest: Digest): Promise<void> {
    const { graph, grants } = this.#options;
    if (!this.isMany(manifest) || this.#isEntire(repository, manifest)) return;
    const key = this.#begin(repository, manifest);
    let after = '';
    while (!this.#isEnded) {
      const some = graph.named(manifest, { isHeld: true, after, limit: partsPerTurn });
      grants.addParts(repository, some);
      if (some.length < partsPerTurn) break;
      after = some.at(-1)!.digest;
      await nextTurn();
    }
    this.#end(key);
  }

  /** Whether the many parts of a manifest, which is about to be recorded in a repository, are in the tables. */
  take(repository: string, manifest: Digest): boolean {
    // It is here again: nothing of it is deleted any more.
    this.#leaving.delete(manifest);
    const key = `${repository} ${manifest}`;
    const isWritten = this.#written.get(key) === true;
    this.#written.delete(key);
    return isWritten || (this.isMany(manifest) && this.#isEntire(repository, manifest));
  }

  /** The manifest itself is in the tables now. Call it within a write of the database. */
  recorded(manifest: Digest): void {
    this.#database.run('DELETE FROM notes WHERE name = ?', `${notePrefix}${manifest}`);
  }

  /** Some of what has been written may be deleted now: what is recorded next is written in full. */
  disturb(): void {
    this.#written.clear();
  }

  /** A manifest is gone: its parts are deleted in the background. Call it within a write of the database. */
  leave(manifest: Digest): void {
    this.disturb();
    this.#note(manifest);
    this.#leaving.add(manifest);
    this.#sweeping ??= this.#sweep();
  }

  /** Deletes what a process that was killed has left. */
  resume(): void {
    const rows = this.#database.all(
      `SELECT name FROM notes WHERE name > '${notePrefix}' AND name < '${notePrefix}~' ORDER BY name`,
    );
    for (const row of rows) this.#leaving.add(text(row, 'name').slice(notePrefix.length) as Digest);
    if (rows.length > 0) this.#sweeping ??= this.#sweep();
  }

  /** Resolves when nothing is left to be deleted. */
  async settled(): Promise<void> {
    await this.#sweeping;
  }

  [Symbol.dispose](): void {
    this.#isEnded = true;
  }

  #begin(repository: string, manifest: Digest): string {
    const key = `${repository} ${manifest}`;
    this.#leaving.delete(manifest);
    this.#written.set(key, false);
    this.#database.write(() => this.#note(manifest));
    return key;
  }

  /** Unless something has been deleted meanwhile, or recorded by others. */
  #end(key: string): void {
    if (this.#written.has(key) && !this.#isEnded) this.#written.set(key, true);
  }

  /** Whether a manifest is recorded, and all that it names is readable through a repository. */
  #isEntire(repository: string, manifest: Digest): boolean {
    const { graph, grants } = this.#options;
    return graph.isRecorded(manifest) && grants.mayReadAll(repository, manifest);
  }

  #note(manifest: Digest): void {
    this.#database.run(`INSERT OR REPLACE INTO notes VALUES (?, '')`, `${notePrefix}${manifest}`);
  }

  async #sweep(): Promise<void> {
    await nextTurn();
    for (const manifest of this.#leaving) {
      while (!this.#isEnded && this.#leaving.has(manifest) && this.#deleteSome(manifest)) await nextTurn();
      this.#leaving.delete(manifest);
    }
    this.#sweeping = undefined;
  }

  /** @returns whether there is more */
  #deleteSome(manifest: Digest): boolean {
    const { graph, grants } = this.#options;
    const some = graph.isRecorded(manifest) ? [] : graph.named(manifest, { limit: partsPerTurn });
    const gone: { repository: string; digest: Digest }[] = [];
    try {
      this.#database.writeNow(() => {
        for (const { digest } of some) {
          graph.removeLink(manifest, digest);
          gone.push(...grants.removeUnneeded(digest));
        }
        if (some.length === 0) this.recorded(manifest);
      });
    } catch {
      // It has been reported; the next start tries again.
      return false;
    }
    for (const { repository, digest } of gone) grants.drop(repository, digest);
    return some.length > 0;
  }
}

function distinct(links: ManifestLinks) {
  return [...new Map(linksOf(links).map((part) => [part.digest, part])).values()];
}
