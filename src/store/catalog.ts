import type { Digest } from '../oci/digest.ts';
import { type BlobRecord, BlobRecords, type NewManifest, type ReferrerRecord } from './blob-records.ts';
import { Database, type DatabaseOptions } from './database.ts';
import { GrantRecords } from './grant-records.ts';
import { type TagKey, type TagRecord, TagRecords } from './tag-records.ts';

/** After a failed read or write, which is told, the catalog goes on with what it has in memory. */
export interface CatalogOptions extends DatabaseOptions {
  readonly now: () => number;
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

  private constructor(database: Database, { now }: CatalogOptions) {
    this.#database = database;
    this.#tags = new TagRecords(database);
    this.#grants = new GrantRecords(database);
    this.#blobs = new BlobRecords(database, { grants: this.#grants, now });
  }

  /** Opens the catalog and takes the directory's lock. @throws Error as {@link Database.open} */
  static async open(options: CatalogOptions): Promise<Catalog> {
    return new Catalog(await Database.open(options), options);
  }

  /** What a tag meant when it was last checked. */
  tag(key: TagKey): TagRecord | undefined {
    return this.#tags.get(key);
  }

  /** Notes what a tag means now, and that its repository may read that. */
  recordTag(key: TagKey, record: TagRecord): void {
    this.#tags.record(key, record);
    this.#grants.grant(key.repository, record.digest);
  }

  /** Forgets what a tag meant: the upstream has said that it is gone. */
  forgetTag(key: TagKey): void {
    this.#tags.forget(key);
  }

  /** The tags known of a repository, in lexical order. */
  tags(repository: string): string[] {
    return this.#tags.names(repository);
  }

  /** Whether a repository may read a digest: a manifest of it names it, or the upstream has confirmed it there. */
  mayRead(repository: string, digest: Digest): boolean {
    return this.#grants.mayRead(repository, digest);
  }

  /** The size that a manifest of the repository gives a blob, in bytes; `undefined` where none does. */
  expectedSize(repository: string, digest: Digest): number | undefined {
    return this.#grants.expectedSize(repository, digest);
  }

  /** Remembers that the upstream has confirmed a digest in a repository. */
  grant(repository: string, digest: Digest): void {
    this.#grants.grant(repository, digest);
  }

  /** What is known of a blob or manifest that has been stored. */
  blob(digest: Digest): BlobRecord | undefined {
    return this.#blobs.get(digest);
  }

  /** Whether a digest is known to be a manifest. */
  isManifest(digest: Digest): boolean {
    return this.#blobs.isManifest(digest);
  }

  /** How many blobs are known to be stored, manifests among them, and their bytes in all. */
  usage(): { blobs: number; bytes: number } {
    return this.#blobs.usage();
  }

  /** Records a blob that has just been stored. */
  recordBlob(digest: Digest, blob: BlobRecord): void {
    this.#blobs.record(digest, blob);
  }

  /** Records a verified manifest, what it names, and that its repository may read all of that. */
  recordManifest(digest: Digest, manifest: NewManifest): void {
    this.#blobs.recordManifest(digest, manifest);
  }

  /** The stored manifests of a repository whose `subject` is a digest. */
  referrers(repository: string, subject: Digest): ReferrerRecord[] {
    return this.#blobs.referrers(repository, subject);
  }

  /** Forgets a blob whose file is gone. */
  forgetBlob(digest: Digest): void {
    this.#blobs.forget(digest);
  }

  /** Notes that a blob was used; written in batches by {@link flush}. */
  touch(digest: Digest): void {
    this.#blobs.touch(digest);
  }

  /** Writes what {@link touch} has noted. */
  flush(): void {
    this.#blobs.flush();
  }

  [Symbol.dispose](): void {
    this.flush();
    this.#database[Symbol.dispose]();
  }
}
