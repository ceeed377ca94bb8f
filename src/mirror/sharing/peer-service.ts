import type { Coordinator } from '../../coordination/coordinator.ts';
import type { PeerWant } from '../../coordination/peers.ts';
import type { Digest } from '../../oci/digest.ts';
import { octetStream } from '../../oci/media-types.ts';
import type { Catalog } from '../../store/catalog/catalog.ts';
import { type BlobStore, DiskFault } from '../../store/files/blob-store.ts';
import { type BlobBody, storedBody } from '../body.ts';
import type { Downloads } from '../fill/downloads.ts';
import { upstreamSources } from '../fill/sources.ts';
import type { Repository } from '../repository.ts';
import { PeerReader } from './peer-reader.ts';

export interface PeerServiceOptions {
  readonly store: BlobStore;
  readonly catalog: Catalog;
  readonly downloads: Downloads;
  readonly coordinator: Coordinator;
  /** No upstream is ever contacted, for other replicas neither. */
  readonly offline: boolean;
  /** A repository by the cache's name of it, where this mirror may pull from it. */
  readonly repository: (key: string) => Repository | undefined;
  readonly onDiskFault: (error: DiskFault) => void;
}

/** A blob for another replica; whoever got it disposes the body. */
export interface PeerBlob {
  /** `undefined` where it is not known before the end. */
  readonly size: number | undefined;
  readonly contentType: string;
  readonly body: BlobBody;
}

export interface PeerQuestion {
  readonly want: PeerWant;
  /** First byte wanted. */
  readonly offset: number;
  /** The repository through which it is to be fetched where it is not here, as the cache names it. */
  readonly through: string | undefined;
  readonly signal: AbortSignal;
}

/** What other replicas may have from here: blobs by digest, also those under way. Whether a client may is theirs to know. */
export class PeerService {
  readonly #options: PeerServiceOptions;

  constructor(options: PeerServiceOptions) {
    this.#options = options;
  }

  /**
   * @returns `undefined` where it is not here
   * @throws RegistryError where it was on its way and has been given up; the signal's reason
   */
  async open(digest: Digest, question: PeerQuestion): Promise<PeerBlob | undefined> {
    const { downloads, coordinator } = this.#options;
    const { want } = question;
    const stored = await this.#stored(digest);
    if (stored) return stored;
    // A hint that was wrong costs one question, not one each time.
    if (want === 'stored') {
      coordinator.drop(digest);
      return undefined;
    }
    const under = downloads.follow(digest) ?? (want === 'filling' ? undefined : this.#begin(digest, question));
    if (under === undefined) return undefined;
    try {
      const heading = await under.ready(question.offset, question.signal);
      return { ...heading, body: under };
    } catch (error) {
      await under[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Begins to fetch a blob for this disk, for nobody. @returns whether it is here or on its way */
  async copy(digest: Digest, question: PeerQuestion): Promise<boolean> {
    const stored = await this.#stored(digest);
    await stored?.body[Symbol.asyncDispose]();
    if (stored || this.#options.downloads.has(digest)) return true;
    const reader = this.#begin(digest, question);
    await reader?.[Symbol.asyncDispose]();
    return reader !== undefined;
  }

  async #stored(digest: Digest): Promise<PeerBlob | undefined> {
    const { store, catalog, onDiskFault } = this.#options;
    try {
      const blob = await store.open(digest);
      if (!blob) return undefined;
      catalog.uses.touch(digest);
      const contentType = catalog.blobs.get(digest)?.contentType ?? octetStream;
      return { size: blob.size, contentType, body: storedBody(blob) };
    } catch (error) {
      if (!(error instanceof DiskFault)) throw error;
      onDiskFault(error);
      return undefined;
    }
  }

  #begin(digest: Digest, { through }: PeerQuestion): PeerReader | undefined {
    const { downloads, catalog, offline, repository } = this.#options;
    const found = through === undefined || offline ? undefined : repository(through);
    // It is not configured as the other one: that is a reason to look elsewhere, not to leave it alone.
    if (found === undefined) return undefined;
    const { fill, reader } = downloads.join(digest, {
      repository: found.key,
      sources: upstreamSources(found),
      expectedSize: catalog.grants.expectedSize(found.key, digest),
      isRanged: false,
      isOwned: true,
    });
    const following = new PeerReader(fill);
    void reader[Symbol.asyncDispose]();
    return following;
  }
}
