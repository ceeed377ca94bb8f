import { dirname, join } from 'node:path';
import type { Digest } from '../../oci/digest.ts';
import { type Changes, unwatched } from '../../oci/facts.ts';
import { nameJournalFile } from '../files/layout.ts';
import { BlobRecords } from './blob-records.ts';
import { rebuildNote } from './catalog-schema.ts';
import { ConfirmationRecords } from './confirmation-records.ts';
import { Database, type DatabaseOptions, inMemory } from './database.ts';
import { DeliveryRecords } from './delivery-records.ts';
import { EvictionRecords } from './eviction-records.ts';
import { GrantRecords } from './grant-records.ts';
import { ImageGraph } from './image-graph.ts';
import { ImageRecords } from './image-records.ts';
import { ImageRemoval } from './image-removal.ts';
import { ListedRecords } from './listed-records.ts';
import { ManifestChanges } from './manifest-changes.ts';
import { ManifestRecords } from './manifest-records.ts';
import { ManyParts } from './many-parts.ts';
import { NameJournal } from './name-journal.ts';
import { lengthNote, NameRecords } from './name-records.ts';
import type { CatalogNews } from './news.ts';
import { NoteRecords } from './note-records.ts';
import { PinRecords } from './pin-records.ts';
import { TagRecords } from './tag-records.ts';
import { UseRecords } from './use-records.ts';

/** After a failed read or write, which is reported, the catalog goes on with what it has in memory. */
export interface CatalogOptions extends DatabaseOptions {
  readonly now: () => number;
  /** Called when the catalog was found damaged or gone and has begun again, empty. */
  readonly onReplaced?: () => void;
  /** Called when a manifest has come to this disk. */
  readonly onManifest?: (manifest: Digest) => void;
  /** Receives what is new in the repositories; must not throw. */
  readonly onNews?: (news: CatalogNews) => void;
  /** Called with each use of a blob or manifest. */
  readonly onUse?: (digest: Digest) => void;
  /** Receives each fact that changes here; absent: no answers are kept. */
  readonly changes?: Changes;
}

/**
 * The records of what the blobs on this disk are for, noun by noun. Reads come from bounded memory first; a write that fails is kept
 * there, so that a full disk never fails a pull. A rule that concerns several nouns is kept by the one that it begins
 * with: a tag that is recorded gives its repository a right, and moves what is pinned.
 */
export class Catalog implements Disposable {
  readonly #database: Database;
  readonly #journal: NameJournal;
  /** The records of tags. */
  readonly tags: TagRecords;
  /** Which repositories may read what. */
  readonly grants: GrantRecords;
  /** How upstreams were asked when they confirmed rights. */
  readonly confirmations: ConfirmationRecords;
  /** The records of stored blobs. */
  readonly blobs: BlobRecords;
  /** Which of it are manifests, and what they name. */
  readonly manifests: ManifestRecords;
  /** The parts of manifests with many of them, while they are written or deleted. */
  readonly parts: ManyParts;
  /** Images that are exempt from eviction, by name. */
  readonly pins: PinRecords;
  /** The uses of blobs: how often, and when last. */
  readonly uses: UseRecords;
  /** The images, part by part, to be listed. */
  readonly images: ImageRecords;
  /** The content of each repository, for lists and the search. */
  readonly listed: ListedRecords;
  /** Which manifests have changed. */
  readonly changes: ManifestChanges;
  /** The parts that only one image needs, and the removal of images. */
  readonly removal: ImageRemoval;
  /** The order of eviction, and the removal of evicted blobs. */
  readonly evictions: EvictionRecords;
  /** The part of all this that is also kept in the journal of names. */
  readonly names: NameRecords;
  /** Which blobs came with which archive. */
  readonly deliveries: DeliveryRecords;
  /** Small things that outlive the process, such as how far a scrub has come. */
  readonly notes: NoteRecords;

  private constructor(database: Database, options: CatalogOptions) {
    const { now, path, onFault, onManifest, onNews, onUse, changes = unwatched } = options;
    const journalPath = path === inMemory ? undefined : join(dirname(path), nameJournalFile);
    const journal = new NameJournal({ path: journalPath, onFault, now });
    const graph = new ImageGraph(database);
    const pins = new PinRecords(database, { graph, journal, now });
    const uses = new UseRecords(database, { graph, now, onUse });
    const blobs = new BlobRecords(database, { journal, pins, uses, changes, now });
    const grants = new GrantRecords(database, { journal, blobs, pins, changes });
    const tags = new TagRecords(database, { journal, grants, graph, pins, changes, now, onNews });
    const parts = new ManyParts(database, { graph, grants });
    const manifests = new ManifestRecords(database, {
      journal,
      blobs,
      grants,
      graph,
      parts,
      pins,
      uses,
      now,
      onRecorded: onManifest,
      onNews,
    });
    this.#database = database;
    this.#journal = journal;
    this.tags = tags;
    this.grants = grants;
    this.parts = parts;
    this.blobs = blobs;
    this.confirmations = new ConfirmationRecords(database, { blobs });
    this.manifests = manifests;
    this.pins = pins;
    this.uses = uses;
    this.names = new NameRecords(database, { journal, tags, grants, blobs, pins, now });
    this.deliveries = new DeliveryRecords(database);
    this.notes = new NoteRecords(database);
    this.listed = new ListedRecords(database, grants);
    this.changes = new ManifestChanges(database);
    this.images = new ImageRecords(database, { graph, uses, now });
    this.removal = new ImageRemoval(database, { journal, tags, grants, manifests, parts, graph, pins, now });
    this.evictions = new EvictionRecords(database, {
      journal,
      tags,
      grants,
      blobs,
      manifests,
      parts,
      graph,
      uses,
      now,
    });
  }

  /** Opens the catalog and takes the directory's lock. @throws Error as {@link Database.open} */
  static async open(options: CatalogOptions): Promise<Catalog> {
    const database = await Database.open(options);
    const catalog = new Catalog(database, options);
    catalog.#completeFromJournal();
    catalog.parts.resume();
    database.onReplaced = () => {
      catalog.tags.dropAll();
      catalog.parts.disturb();
      options.changes?.changedAll();
      catalog.changes.renew();
      options.onReplaced?.();
    };
    return catalog;
  }

  /** An older catalog than its journal is completed by a rebuild: until then, the journal is not rewritten. */
  #completeFromJournal(): void {
    const from = this.names.mark.compare();
    if (from === undefined) return;
    // Read as a whole, it may lack what this catalog has: it is rewritten afterwards.
    if (from === 0) this.notes.remove(lengthNote);
    const [stage = '', position = 0] = this.notes.get(rebuildNote)?.split(' ') ?? ['names', from];
    const isReading = stage === '' || stage === 'names';
    this.notes.set(rebuildNote, `names ${isReading ? Math.min(from, Number(position)) : from}`);
  }

  /**
   * Does several things in one transaction, at once.
   * @param work calls of this catalog; nothing of it may wait
   */
  together(work: () => void): void {
    this.#database.write(work);
    this.#database.flush();
  }

  /** Looks whether the file is still where it was: a catalog that has been removed begins again, empty. */
  look(): void {
    this.#database.look();
  }

  [Symbol.dispose](): void {
    this.parts[Symbol.dispose]();
    this.uses.flushAll();
    // The catalog notes how long the journal is, which has to be open for that.
    this.#journal.flush();
    this.#database.flush();
    this.#journal[Symbol.dispose]();
    this.#database[Symbol.dispose]();
  }
}
