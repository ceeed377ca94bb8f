import type { PeerWant } from '../../coordination/peers.ts';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/error.ts';
import { octetStream } from '../../oci/media-types.ts';
import { accessTo } from '../../replicas/replicas.ts';
import { DiskFault } from '../../store/files/blob-store.ts';
import type { Repository } from '../../upstream/repository.ts';
import { type BlobBody, storedBody } from '../body.ts';
import type { Waiting } from '../content.ts';
import type { Fills } from '../fill/fills.ts';
import type { MirrorParts } from '../parts.ts';
import { PeerReader } from './peer-reader.ts';

export interface PeerServiceOptions extends Pick<MirrorParts, 'store' | 'catalog' | 'coordinator' | 'offline'> {
  readonly fills: Fills;
  /** A repository by the cache's name of it, where this mirror may pull from it. */
  readonly repository: (key: string) => Repository | undefined;
  readonly onDiskFault: (error: DiskFault) => void;
  /** Makes sure that an upstream has shown that it has the stored bytes. @throws RegistryError */
  readonly requireShown: (repository: Repository, digest: Digest, waiting: Waiting) => Promise<boolean>;
}

/** A blob for another replica; the receiver disposes the body. */
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
  /** The repository through which the other replica reads it, as the cache names it. */
  readonly through: string | undefined;
  /** How the other replica reaches the upstream of that repository. */
  readonly access: string | undefined;
  readonly signal: AbortSignal;
}

/** Gives blobs to other replicas by digest, also those that are being filled. They check the rights of their clients. */
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
    const { fills, coordinator } = this.#options;
    const { want } = question;
    // A replica of an earlier version sees to the right to read by itself.
    if (question.access === undefined && want === 'stored') return await this.#stored(digest);
    const repository = await this.#repository(question);
    // It is not configured as the other one: that is a reason to look elsewhere, not to leave it alone.
    if (repository === undefined) return undefined;
    const fill = fills.following(digest, repository.upstream.name);
    // A fill whose blob is verified has the file before the catalog knows it.
    const isAhead = fill !== undefined && (want !== 'stored' || fill.state === 'verified');
    const stored = isAhead ? undefined : await this.#stored(digest);
    if (stored) {
      if (await this.#isShown(repository, digest, question)) return stored;
      await stored.body[Symbol.asyncDispose]();
    } else if (want === 'stored' && !isAhead) {
      // A hint that was wrong costs one question, not one each time.
      coordinator.drop(digest);
    }
    if (want === 'stored' && !isAhead) return undefined;
    const under = fill ? new PeerReader(fill) : want === 'filling' ? undefined : this.#begin(digest, repository);
    if (under === undefined) return undefined;
    try {
      const heading = await under.ready(question.offset, question.signal);
      return { ...heading, body: under };
    } catch (error) {
      await under[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Begins to fetch a blob for this disk, without a client. @returns whether it is here or on its way */
  async copy(digest: Digest, question: PeerQuestion): Promise<boolean> {
    const stored = await this.#stored(digest);
    await stored?.body[Symbol.asyncDispose]();
    if (stored || this.#options.fills.has(digest)) return true;
    const { repository: find } = this.#options;
    const repository = question.through === undefined ? undefined : find(question.through);
    const reader = repository && this.#begin(digest, repository);
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

  /** The repository that is meant, where its upstream is reached here as the other replica reaches it. */
  async #repository({ through, access }: PeerQuestion): Promise<Repository | undefined> {
    const { repository: find, coordinator } = this.#options;
    const repository = through === undefined ? undefined : find(through);
    if (repository === undefined || access === undefined) return undefined;
    return (await accessTo(repository.upstream, coordinator)) === access ? repository : undefined;
  }

  /** Whether the upstream of a repository has the stored bytes: a digest alone gives no right to those of another one. */
  async #isShown(repository: Repository, digest: Digest, { signal }: PeerQuestion): Promise<boolean> {
    const { catalog, requireShown } = this.#options;
    if (catalog.blobs.isShown(digest, repository.upstream.name)) return true;
    try {
      return await requireShown(repository, digest, { signal });
    } catch (error) {
      if (!(error instanceof RegistryError)) throw error;
      return false;
    }
  }

  #begin(digest: Digest, repository: Repository): PeerReader | undefined {
    const { fills, catalog, offline } = this.#options;
    if (offline) return undefined;
    const { fill, reader } = fills.join(digest, {
      repository,
      expectedSize: catalog.grants.expectedSize(repository.key, digest),
      isRanged: false,
      isOwned: true,
    });
    const following = new PeerReader(fill);
    void reader[Symbol.asyncDispose]();
    return following;
  }
}
