import type { ManifestLinks } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import type { BlobRecord, BlobRecords } from './blob-records.ts';
import type { Database } from './database.ts';
import { type GrantRecords, upstreamOf } from './grant-records.ts';
import { type ImageGraph } from './image-graph.ts';
import { linksOf, type ManifestSource } from './image-parts.ts';
import type { ManyParts } from './many-parts.ts';
import type { NameJournal } from './name-journal.ts';
import type { CatalogNews } from './news.ts';
import type { PinRecords } from './pin-records.ts';
import { digestIn, number, optionalText, text } from './row.ts';
import type { UseRecords } from './use-records.ts';

/** A manifest that has just been verified. */
export interface NewManifest extends BlobRecord {
  /** Absent: not known any more. */
  readonly source?: ManifestSource;
  /** The repository it came through, as the cache names it. */
  readonly repository: string;
  readonly links: ManifestLinks;
  /** When it was last used, in milliseconds since 1970 (default: now). */
  readonly usedAtMs?: number;
}

/** A manifest that names a subject. */
export interface ReferrerRecord {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly size: number;
  readonly artifactType: string | undefined;
  readonly annotations: Readonly<Record<string, string>> | undefined;
}

export interface ManifestRecordsOptions {
  readonly journal: NameJournal;
  readonly blobs: BlobRecords;
  readonly grants: GrantRecords;
  readonly graph: ImageGraph;
  readonly parts: ManyParts;
  readonly pins: PinRecords;
  readonly uses: UseRecords;
  readonly now: () => number;
  /** Called when a manifest has come. */
  readonly onRecorded: ((manifest: Digest) => void) | undefined;
  readonly onNews: ((news: CatalogNews) => void) | undefined;
}

/** The manifests on this disk: what they name, and which repositories have them. */
export class ManifestRecords {
  readonly #database: Database;
  readonly #options: ManifestRecordsOptions;

  constructor(database: Database, options: ManifestRecordsOptions) {
    this.#database = database;
    this.#options = options;
  }

  /** Whether a digest is known to be a manifest. */
  has(digest: Digest): boolean {
    return this.#options.graph.isManifest(digest);
  }

  /**
   * Writes what a verified manifest names, where that is much, over many turns of the event loop. To be awaited before
   * {@link record} or {@link restore}, which make it visible: without it, they write all of it at once.
   */
  async prepare(digest: Digest, { repository, links }: Pick<NewManifest, 'repository' | 'links'>): Promise<void> {
    await this.#options.parts.write(repository, digest, links);
  }

  /** Records a verified manifest, what it names, and that its repository may read all of that. */
  record(digest: Digest, manifest: NewManifest): void {
    const { repository, contentType } = manifest;
    const { journal, grants, onRecorded, onNews } = this.#options;
    const isNews = onNews !== undefined && !(this.has(digest) && grants.mayReadAll(repository, digest));
    journal.add({ kind: 'manifest', digest, repository, contentType });
    this.restore(digest, manifest);
    onRecorded?.(digest);
    if (!isNews) return;
    const { artifactType, subject } = manifest.links;
    const { size } = manifest;
    onNews({
      kind: 'manifest',
      repository,
      digest,
      mediaType: contentType,
      artifactType,
      size,
      subject: subject?.digest,
    });
  }

  /** As {@link record}, for a manifest that the journal names and that has been read again. */
  restore(digest: Digest, { repository, links, source, usedAtMs, ...blob }: NewManifest): void {
    const { blobs, grants, graph, parts, pins, uses, now } = this.#options;
    const isWritten = parts.take(repository, digest);
    const named = isWritten ? [] : linksOf(links);
    // A repository has a manifest only after its upstream has shown it.
    blobs.add(digest, { ...blob, shownBy: upstreamOf(repository), usedAtMs });
    graph.note(digest);
    grants.dropParts(digest);
    grants.addManifest(
      repository,
      digest,
      named.filter(({ kind }) => kind !== 'elsewhere'),
    );
    this.#database.write(() => {
      graph.add(digest, links, source);
      graph.addLinks(digest, named);
      parts.recorded(digest);
      if (links.subject) graph.warm(digest, repository);
      uses.usePartsOf(digest, usedAtMs ?? now());
      pins.stored(digest);
    });
  }

  /**
   * The upstream has confirmed a manifest in a repository. Where it is stored, having come through another one, what it
   * names is this repository's as well then.
   */
  async share(repository: string, digest: Digest): Promise<void> {
    const { journal, blobs, grants, graph, parts, pins } = this.#options;
    if (grants.mayReadAll(repository, digest)) return;
    if (this.has(digest)) await parts.writeRights(repository, digest);
    const contentType = this.has(digest) ? blobs.get(digest)?.contentType : undefined;
    if (contentType === undefined) return grants.grant(repository, digest);
    journal.add({ kind: 'manifest', repository, digest, contentType });
    const isWritten = parts.take(repository, digest);
    grants.addManifest(repository, digest, isWritten ? [] : graph.named(digest, { isHeld: true }));
    this.#database.write(() => {
      parts.recorded(digest);
      if (graph.subject(digest) !== undefined) graph.warm(digest, repository);
      pins.stored(digest);
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
    // An index can claim another one's signature, whose annotations are not for its readers.
    const readable = rows.filter((row) => this.#options.grants.isReadable(repository, digestIn(row)));
    return readable.map((row) => {
      const annotations = optionalText(row, 'annotations');
      return {
        digest: digestIn(row),
        mediaType: text(row, 'media_type'),
        size: number(row, 'size'),
        artifactType: optionalText(row, 'artifact_type'),
        annotations: annotations === undefined ? undefined : JSON.parse(annotations),
      };
    });
  }

  /** Forgets that a blob is a manifest, and what it names. To be called within a write of the database. */
  forget(digest: Digest): void {
    this.#options.parts.disturb();
    this.#options.graph.remove(digest);
    this.#options.grants.dropParts(digest);
  }

  /** Forgets in memory what the tables do not have any more. */
  drop(digest: Digest): void {
    this.#options.graph.drop(digest);
    this.#options.grants.dropParts(digest);
  }
}
