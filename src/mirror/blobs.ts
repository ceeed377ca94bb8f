import type { Digest } from '../oci/digest.ts';
import { emptyBlob, emptyBlobDigest } from '../oci/empty-blob.ts';
import { hasReason, isTransient, RegistryError } from '../oci/error.ts';
import { blobFact, rightFact } from '../oci/facts.ts';
import { octetStream } from '../oci/media-types.ts';
import type { Custody } from '../store/care/custody.ts';
import { DiskFault, type StoredBlob } from '../store/files/blob-store.ts';
import type { Repository } from '../upstream/repository.ts';
import { withDeadline } from '../waiting/deadline.ts';
import { BlobInquiry, type UpstreamBlob } from './blob-inquiry.ts';
import { type BlobBody, storedBody } from './body.ts';
import { Content, type Waiting } from './content.ts';
import type { Fill } from './fill/fill.ts';
import type { FillReader } from './fill/fill-reader.ts';
import type { Fills } from './fill/fills.ts';
import type { BlobHeading } from './fill/transfer.ts';
import type { Outcome } from './outcome.ts';
import type { MirrorParts } from './parts.ts';
import type { Standing, StandingFile } from './standing.ts';

/** Share of the time for an answer after which a blob is fetched although as many are being fetched as may be. */
const waitForPlaceShare = 1 / 2;

export interface BlobsOptions
  extends Pick<MirrorParts, 'store' | 'catalog' | 'coordinator' | 'questions' | 'offline' | 'gone' | 'now'> {
  readonly fills: Fills;
  readonly custody: Custody;
  readonly onDiskFault: (error: DiskFault) => void;
}

/** The headers of a blob, without its content. */
export interface BlobHead {
  readonly digest: Digest;
  /** Bytes; `undefined` where the upstream does not tell before the end. */
  readonly size: number | undefined;
  readonly contentType: string;
  readonly outcome: Outcome;
  /** The file that it is read from; absent: it is in memory, or on its way. */
  readonly file?: StandingFile | undefined;
}

/** A blob on its way to a client, which disposes the body. */
export interface BlobReply extends BlobHead {
  readonly body: BlobBody;
}

/** Blobs through one repository: from this disk, from a fill under way, or from the upstream. */
export class Blobs {
  readonly #options: BlobsOptions;
  /** The right of repositories to read blobs, and the requests to upstreams about them. */
  readonly content: Content<UpstreamBlob>;

  constructor(options: BlobsOptions) {
    this.#options = options;
    this.content = new Content({
      ...options,
      kind: 'blob',
      inquiry: new BlobInquiry(options),
      grant: (repository, digest) => options.catalog.grants.grant(repository, digest),
    });
  }

  /** The answer that needs no waiting: a small blob in memory that may be read. `undefined` where there is none. */
  #atHand(repository: Repository, digest: Digest): BlobReply | undefined {
    const { catalog, store } = this.#options;
    const small = store.small(digest);
    // Without a row it is not known where it came from.
    if (small === undefined || catalog.blobs.get(digest) === undefined) return undefined;
    if (!catalog.grants.isReadable(repository.key, digest)) return undefined;
    return this.#stored(digest, { size: small.length, body: memoryBody(small) });
  }

  /**
   * A blob's content.
   * @throws RegistryError BLOB_UNKNOWN, DENIED, TOOMANYREQUESTS, UNAVAILABLE; the signal's reason
   */
  async get(repository: Repository, digest: Digest, waiting: Waiting): Promise<BlobReply> {
    const atHand = this.#atHand(repository, digest);
    if (atHand) return atHand;
    const stored = this.#options.fills.has(digest, repository.upstream.name)
      ? undefined
      : await this.#open(repository, digest, waiting);
    if (!stored) {
      return await this.#join(repository, digest, waiting).catch((error: unknown) => this.#emptyOr(digest, error));
    }
    try {
      const isReadable = await this.requireRight(repository, digest, waiting);
      if (isReadable) return this.#stored(digest, stored);
    } catch (error) {
      await stored.body[Symbol.asyncDispose]();
      throw error;
    }
    await stored.body[Symbol.asyncDispose]();
    return await this.#join(repository, digest, waiting);
  }

  /**
   * As {@link get}, where the stored content could not be read: it is fetched as if it were not here.
   * @param failed.error what reading it threw
   * @throws the error where it is no fault of the disk
   */
  async getUnreadable(
    repository: Repository,
    digest: Digest,
    failed: Waiting & { readonly error: unknown },
  ): Promise<BlobReply> {
    const { error } = failed;
    if (!(error instanceof DiskFault)) throw error;
    this.#options.onDiskFault(error);
    if (this.#options.offline) throw error;
    return await this.#join(repository, digest, failed);
  }

  /**
   * The answer of a GET without its content; does not begin a fill.
   * @throws RegistryError as {@link get}
   */
  async head(repository: Repository, digest: Digest, waiting: Waiting): Promise<BlobHead> {
    const { catalog, fills } = this.#options;
    const { name } = repository.upstream;
    const stored = await this.#open(repository, digest, waiting);
    await stored?.body[Symbol.asyncDispose]();
    if (stored && catalog.grants.isReadable(repository.key, digest)) return this.#stored(digest, stored);
    if (!stored && fills.has(digest, name)) {
      const { body, ...head } = await this.#join(repository, digest, waiting);
      await body[Symbol.asyncDispose]();
      return head;
    }
    const { size, contentType } = await this.content.confirm(repository, digest, waiting);
    // The bytes came from another upstream, and this one has not shown that it has them.
    if (stored && catalog.blobs.isShown(digest, name)) return this.#stored(digest, stored);
    return { digest, size, contentType, outcome: 'bypass' };
  }

  /**
   * How an answer stands, in this turn of the event loop.
   * @returns `undefined` where the same request may have to wait for something the next time
   */
  standing(repository: Repository, { digest, outcome, file }: BlobHead): Standing | undefined {
    const { catalog, fills, store } = this.#options;
    const { key, upstream } = repository;
    const record = catalog.blobs.get(digest);
    if (outcome !== 'hit' || record === undefined || !catalog.grants.isReadable(key, digest)) return undefined;
    if (fills.has(digest, upstream.name)) return undefined;
    const isRight = file
      ? record.size === file.size && record.modifiedAtMs === file.modifiedAtMs
      : store.small(digest) !== undefined;
    return isRight ? { digest, facts: [blobFact(digest), rightFact(key, digest)], file } : undefined;
  }

  /** As {@link Content.requireRight}. */
  requireRight(repository: Repository, digest: Digest, waiting: Waiting): Promise<boolean> {
    return this.content.requireRight(repository, digest, waiting);
  }

  /** The empty blob is the same everywhere: it needs no upstream. @throws the error, for any other one */
  #emptyOr(digest: Digest, error: unknown): BlobReply {
    if (digest !== emptyBlobDigest || !(isTransient(error) || hasReason(error, 'offline'))) throw error;
    const body = memoryBody(emptyBlob);
    return { digest, size: emptyBlob.length, contentType: octetStream, outcome: 'hit', body };
  }

  #stored(digest: Digest, { size, body, file }: Stored): BlobReply {
    const { catalog } = this.#options;
    catalog.uses.touch(digest);
    const contentType = catalog.blobs.get(digest)?.contentType ?? octetStream;
    return { digest, size, contentType, outcome: 'hit', body, file };
  }

  /** The blob on this disk, unless the disk cannot give it, or not rightly: then it is fetched as if it were not here. */
  async #open(repository: Repository, digest: Digest, waiting: Waiting): Promise<Stored | undefined> {
    const { catalog, store, fills, custody, onDiskFault } = this.#options;
    const { answerMs } = repository.upstream;
    // A look at its name costs a twentieth of an attempt to open it in a thread.
    if (catalog.blobs.get(digest) === undefined && !store.mayHave(digest)) return undefined;
    try {
      let verifiedMs: number | undefined;
      while (true) {
        const blob = await store.open(digest);
        if (!blob) return undefined;
        // A fill has made the file visible and not yet noted whose bytes they are.
        if (catalog.blobs.get(digest) === undefined && fills.has(digest)) {
          await blob[Symbol.asyncDispose]();
          return undefined;
        }
        const doubt = custody.doubt(digest, blob);
        const isVerified = verifiedMs !== undefined && verifiedMs === blob.modifiedAtMs;
        if (doubt === undefined || isVerified) return storedIn(blob);
        await blob[Symbol.asyncDispose]();
        const look = (signal: AbortSignal) => custody.look(digest, doubt, { signal });
        verifiedMs = await withDeadline(look, { answerMs, signal: waiting.signal });
        if (verifiedMs === undefined) return undefined;
      }
    } catch (error) {
      if (!(error instanceof DiskFault)) throw error;
      onDiskFault(error);
      return undefined;
    }
  }

  async #join(repository: Repository, digest: Digest, waiting: Waiting): Promise<BlobReply> {
    const { catalog, fills, coordinator } = this.#options;
    const { key, upstream } = repository;
    const work = async (): Promise<BlobReply> => {
      // Another replica may have the bytes, and they would say nothing about the right to read them here.
      if (!coordinator.isAlone && !catalog.grants.mayRead(key, digest)) {
        await this.content.confirm(repository, digest, waiting);
      }
      const { fill, reader, begun } = fills.join(digest, {
        repository,
        expectedSize: catalog.grants.expectedSize(key, digest),
        isRanged: waiting.isRanged === true,
      });
      // A client that waited any longer would get no answer in time.
      const late = setTimeout(() => fills.startAnyway(fill), upstream.answerMs * waitForPlaceShare);
      try {
        const heading = await withDeadline((signal) => this.#heading(reader, { fill, signal }), {
          answerMs: upstream.answerMs,
          signal: waiting.signal,
        });
        await this.#checkJoined(repository, { fill, waiting });
        return { digest, ...heading, outcome: outcomeOf(fill, begun), body: reader };
      } catch (error) {
        await reader[Symbol.asyncDispose]();
        throw error;
      } finally {
        clearTimeout(late);
      }
    };
    return await this.content.fetch(repository, digest, { work });
  }

  /** @throws RegistryError 503 where all the time was spent waiting for other blobs; else what the reader throws */
  async #heading(reader: FillReader, { fill, signal }: { fill: Fill; signal: AbortSignal }): Promise<BlobHeading> {
    try {
      return await reader.heading(signal);
    } catch (error) {
      if (!signal.aborted || !this.#options.fills.isQueued(fill)) throw error;
      throw new RegistryError('no-place', 'this mirror is fetching as many blobs as it may; try again later', {
        headers: { 'Retry-After': '5' },
        cause: error,
      });
    }
  }

  /** A fill may have been answered for another repository: that says nothing about the right to read through this one. */
  async #checkJoined(repository: Repository, { fill, waiting }: { fill: Fill; waiting: Waiting }): Promise<void> {
    const { grants } = this.#options.catalog;
    if (fill.confirmed.has(repository.key)) grants.grant(repository.key, fill.digest);
    else if (!grants.mayRead(repository.key, fill.digest)) {
      await this.content.confirm(repository, fill.digest, waiting);
    }
  }
}

/** A blob that is stored here. */
interface Stored {
  readonly size: number;
  readonly body: BlobBody;
  readonly file?: StandingFile | undefined;
}

function storedIn(blob: StoredBlob): Stored {
  const { size, path, modifiedAtMs } = blob;
  const isFile = path !== undefined && modifiedAtMs !== undefined;
  return { size, body: storedBody(blob), ...(isFile && { file: { path, size, modifiedAtMs } }) };
}

function memoryBody(bytes: Buffer): BlobBody {
  return {
    bytes,
    read: (buffer, position) => Promise.resolve(bytes.copy(buffer, 0, position)),
    peek: () => undefined,
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/** Joining a fill whose blob is all here and right is as good as finding it on disk. */
function outcomeOf(fill: Fill, begun: boolean): Outcome {
  if (begun) return fill.isFromReplica ? 'peer' : 'miss';
  return fill.state === 'verified' ? 'hit' : 'collapsed';
}
