import { dirname, join } from 'node:path';
import type { Digest } from '../../oci/digest.ts';
import { octetStream } from '../../oci/media-types.ts';
import { subjectOfTag } from '../../oci/subject-of-tag.ts';
import { nameJournalFile } from '../files/layout.ts';
import { type BlobRecord, BlobRecords, type FoundBlob, type NewManifest, type ReferrerRecord } from './blob-records.ts';
import { Database, type DatabaseOptions, inMemory } from './database.ts';
import { DeliveryRecords } from './delivery-records.ts';
import { EvictionRecords } from './eviction-records.ts';
import { GrantRecords } from './grant-records.ts';
import { ImageGraph } from './image-graph.ts';
import { ImageRecords } from './image-records.ts';
import { ImageRemoval } from './image-removal.ts';
import type { NameEntry } from './name-entry.ts';
import { NameJournal } from './name-journal.ts';
import { NameRecords } from './name-records.ts';
import { NoteRecords } from './note-records.ts';
import { type Pin, type PinPatterns, PinRecords } from './pin-records.ts';
import { isNews, type TagKey, type TagRecord, TagRecords } from './tag-records.ts';
import { UseRecords } from './use-records.ts';

/** After a failed read or write, which is told, the catalog goes on with what it has in memory. */
export interface CatalogOptions extends DatabaseOptions {
  readonly now: () => number;
  /** Told when it was found damaged or gone and has begun anew, empty. */
  readonly onReplaced?: () => void;
}

/**
 * What the blobs on this disk are for. Reads come from bounded memory first; a write that fails is kept there, so that a
 * full disk never fails a pull.
 */
export class Catalog implements Disposable {
  readonly #database: Database;
  readonly #tags: TagRecords;
  readonly #grants: GrantRecords;
  readonly #blobs: BlobRecords;
  readonly #graph: ImageGraph;
  readonly #pins: PinRecords;
  readonly #uses: UseRecords;
  readonly #journal: NameJournal;
  readonly #now: () => number;
  /** What of it is kept in the journal of names too. */
  readonly names: NameRecords;
  /** The images, part by part, for those who list them. */
  readonly images: ImageRecords;
  /** What images have for themselves, and their removal. */
  readonly removal: ImageRemoval;
  /** What is to be evicted, and to be forgotten then. */
  readonly evictions: EvictionRecords;
  /** What came with which archive. */
  readonly deliveries: DeliveryRecords;
  /** Small things that outlive the process, such as how far a scrub has come. */
  readonly notes: NoteRecords;

  private constructor(database: Database, { now, path, onFault }: CatalogOptions) {
    this.#database = database;
    const journalPath = path === inMemory ? undefined : join(dirname(path), nameJournalFile);
    this.#journal = new NameJournal({ path: journalPath, onFault });
    this.#tags = new TagRecords(database);
    this.#grants = new GrantRecords(database);
    this.#graph = new ImageGraph(database);
    this.#pins = new PinRecords(database, this.#graph);
    this.#uses = new UseRecords(database, { now });
    const [grants, graph, pins, uses] = [this.#grants, this.#graph, this.#pins, this.#uses];
    this.#blobs = new BlobRecords(database, { grants, graph, pins, uses, now });
    const [blobs, tags, journal] = [this.#blobs, this.#tags, this.#journal];
    const recordTag = this.#recordTag.bind(this);
    this.names = new NameRecords(database, { journal, tags, grants, pins, blobs, recordTag, now });
    const note = (entry: NameEntry): void => this.names.note(entry);
    this.#now = now;
    this.deliveries = new DeliveryRecords(database);
    this.notes = new NoteRecords(database);
    this.images = new ImageRecords(database, graph);
    this.removal = new ImageRemoval(database, { tags, grants, blobs, graph, pins, note, now });
    this.evictions = new EvictionRecords(database, { tags, grants, blobs, uses, note, now });
  }

  /** Opens the catalog and takes the directory's lock. @throws Error as {@link Database.open} */
  static async open(options: CatalogOptions): Promise<Catalog> {
    const database = await Database.open(options);
    const catalog = new Catalog(database, options);
    database.onReplaced = () => {
      catalog.#tags.forgetMemory();
      options.onReplaced?.();
    };
    return catalog;
  }

  /** What a tag meant when it was last checked. */
  tag(key: TagKey): TagRecord | undefined {
    return this.#tags.get(key);
  }

  /** Notes what a tag means now, and that its repository may read that. */
  recordTag(key: TagKey, record: TagRecord): void {
    const before = this.#tags.get(key);
    if (before === undefined || isNews(before, record)) this.names.note({ kind: 'tag', ...key, ...record });
    this.#recordTag(key, record);
  }

  /** The upstream has said that a tag is gone: forgets what it meant. One that is pinned only counts as confirmed no more. */
  forgetTag(key: TagKey): void {
    const before = this.#tags.get(key);
    if (before?.checkedAtMs === 0) return;
    this.names.note({ kind: 'tag gone', ...key, atMs: this.#now() });
    if (before && this.isPinned(key.repository, key.tag)) return this.recordTag(key, { ...before, checkedAtMs: 0 });
    this.#tags.forget(key);
    this.#database.write(() => this.#pins.tagMoved(key.repository, key.tag, before?.digest));
  }

  /** The tags known of a repository, in lexical order. */
  tags(repository: string): string[] {
    return this.#tags.names(repository);
  }

  /** Whether a repository may read a digest: a manifest of it names it, or the upstream has confirmed it there. */
  mayRead(repository: string, digest: Digest): boolean {
    return this.#grants.mayRead(repository, digest);
  }

  /** Whether a repository may read a digest and, where that is a manifest that is stored, all that it names. */
  mayReadAll(repository: string, digest: Digest): boolean {
    return this.#grants.mayReadAll(repository, digest);
  }

  /** The size that a manifest of the repository gives a blob, in bytes; `undefined` where none does. */
  expectedSize(repository: string, digest: Digest): number | undefined {
    return this.#grants.expectedSize(repository, digest);
  }

  /** Remembers that the upstream has confirmed a digest in a repository; what goes with it there may have come before. */
  grant(repository: string, digest: Digest): void {
    if (this.mayRead(repository, digest)) return;
    this.names.note({ kind: 'grant', repository, digest, size: -1 });
    this.#grants.grant(repository, digest);
    this.#database.write(() => this.#pins.stored(digest));
  }

  /** As {@link grant}, for a manifest: where it is stored, what it names is the repository's as well then. */
  grantManifest(repository: string, digest: Digest): void {
    if (this.mayReadAll(repository, digest)) return;
    const contentType = this.isManifest(digest) ? this.blob(digest)?.contentType : undefined;
    if (contentType === undefined) return this.grant(repository, digest);
    this.names.note({ kind: 'manifest', repository, digest, contentType });
    this.#blobs.shareManifest(digest, repository);
  }

  /** The repositories that may read a digest, at most some. */
  readers(digest: Digest): string[] {
    return this.#grants.readers(digest);
  }

  /** What is known of a blob or manifest that has been stored. */
  blob(digest: Digest): BlobRecord | undefined {
    return this.#blobs.get(digest);
  }

  /** Whether a blob is known to be stored; for those who go through many. */
  isRecorded(digest: Digest): boolean {
    return this.#blobs.isRecorded(digest);
  }

  /** Blobs that are known to be stored, in the order of their digests: those after one, up to a number. */
  blobPage(page: { readonly after: string; readonly limit: number }): { digest: Digest; size: number }[] {
    return this.#blobs.page(page);
  }

  /** Whether a digest is known to be a manifest. */
  isManifest(digest: Digest): boolean {
    return this.#blobs.isManifest(digest);
  }

  /** How many blobs are known to be stored, manifests among them, their bytes in all, and those of what is pinned. */
  usage(): { blobs: number; bytes: number; pinnedBytes: number } {
    return this.#blobs.usage();
  }

  /** Records a blob that has just been stored. */
  recordBlob(digest: Digest, blob: BlobRecord): void {
    if (blob.contentType !== octetStream) this.names.note({ kind: 'type', digest, contentType: blob.contentType });
    this.#blobs.record(digest, blob);
  }

  /** Records a verified manifest, what it names, and that its repository may read all of that. */
  recordManifest(digest: Digest, manifest: NewManifest): void {
    this.names.note({ kind: 'manifest', digest, repository: manifest.repository, contentType: manifest.contentType });
    this.#blobs.recordManifest(digest, manifest);
  }

  /** Records a blob that was found on disk; what is known by now stays. */
  adoptBlob(digest: Digest, blob: FoundBlob): void {
    this.#blobs.adopt(digest, blob);
  }

  /** Notes of which time a file is whose content has been found right. */
  noteRight(digest: Digest, file: { size: number; modifiedAtMs: number }): void {
    this.#blobs.noteRight(digest, file);
  }

  /** The stored manifests of a repository whose `subject` is a digest. */
  referrers(repository: string, subject: Digest): ReferrerRecord[] {
    return this.#blobs.referrers(repository, subject);
  }

  /** Forgets a blob whose file is gone. */
  forgetBlob(digest: Digest): void {
    this.#blobs.forget(digest);
  }

  /** Every pin by name. */
  pins(): Pin[] {
    return this.#pins.list();
  }

  /** Whether a tag or digest of a repository is pinned, by name or by the configuration. */
  isPinned(repository: string, reference: string): boolean {
    return this.#pins.isPinned(repository, reference);
  }

  /** Whether an operator has pinned this by name, whatever the configuration says. */
  isPinnedByName(repository: string, reference: string): boolean {
    return this.#pins.isPinnedByName(repository, reference);
  }

  /** Keeps what a tag stands for, now and later, or a digest, with all that it needs and that goes with it. */
  pin(repository: string, reference: string): void {
    const pinnedAtMs = this.#now();
    this.names.note({ kind: 'pin', repository, reference, atMs: pinnedAtMs });
    this.#pins.add({ repository, reference, pinnedAtMs });
  }

  /** Takes a pin back. @returns whether there was one */
  unpin(repository: string, reference: string): boolean {
    this.names.note({ kind: 'unpin', repository, reference });
    return this.#pins.remove(repository, reference);
  }

  /** Puts the configuration's pins in force; {@link renewPins} does the rest. @param fingerprint tells them from earlier ones */
  usePinPatterns(patterns: PinPatterns, fingerprint: string): void {
    this.#pins.usePatterns(patterns, fingerprint);
  }

  /** Does some of what is to be done after pins have changed. @returns whether there is more @throws Error as {@link pin} */
  renewPins(): boolean {
    return this.#pins.renewal.step();
  }

  /**
   * Does several things in one transaction, at once.
   * @param work calls of this catalog; nothing of it may wait
   */
  together(work: () => void): void {
    this.#database.write(work);
    this.#database.flush();
  }

  /** Notes that a blob was used; written in batches by {@link flush}. */
  touch(digest: Digest): void {
    this.#uses.touch(digest);
  }

  /** Writes what {@link touch} has noted: as much of it as takes a few milliseconds. @returns whether there is more */
  flush(): boolean {
    return this.#uses.flush({ everything: false });
  }

  /** Does some of what is to be done after the clock was ahead and has been set back. @returns whether there is more @throws Error as {@link pin} */
  setClockBack(): boolean {
    return this.#uses.setClockBack();
  }

  /** Looks whether it is still where it was: one that has been removed begins anew. */
  look(): void {
    this.#database.look();
  }

  [Symbol.dispose](): void {
    this.#uses.flush({ everything: true });
    this.#journal[Symbol.dispose]();
    this.#database[Symbol.dispose]();
  }

  #recordTag(key: TagKey, record: TagRecord): void {
    const before = this.#tags.get(key);
    this.#tags.record(key, record);
    this.#grants.grant(key.repository, record.digest);
    if (before?.digest === record.digest) return;
    this.#database.write(() => {
      if (subjectOfTag(key.tag) !== undefined) this.#graph.warm(record.digest, key.repository);
      this.#pins.tagMoved(key.repository, key.tag, before?.digest);
    });
  }
}
