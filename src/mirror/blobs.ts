import type { Coordinator } from '../coordination/coordinator.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import { octetStream } from '../oci/media-types.ts';
import type { Catalog } from '../store/catalog/catalog.ts';
import { type BlobStore, DiskFault } from '../store/files/blob-store.ts';
import { withDeadline } from '../waiting/deadline.ts';
import { SingleFlight } from '../waiting/single-flight.ts';
import { type BlobBody, storedBody } from './body.ts';
import type { Custody } from './care/custody.ts';
import type { Downloads } from './fill/downloads.ts';
import type { Fill } from './fill/fill.ts';
import type { FillReader } from './fill/fill-reader.ts';
import { upstreamSources } from './fill/sources.ts';
import type { BlobHeading } from './fill/transfer.ts';
import type { NegativeAnswers } from './negative-answers.ts';
import type { Outcome } from './outcome.ts';
import type { Repository } from './repository.ts';

export interface BlobsOptions {
  readonly store: BlobStore;
  readonly catalog: Catalog;
  readonly downloads: Downloads;
  readonly negative: NegativeAnswers;
  readonly coordinator: Coordinator;
  /** No upstream is ever contacted. */
  readonly offline: boolean;
  readonly custody: Custody;
  readonly onDiskFault: (error: DiskFault) => void;
}

/** What a client is told about a blob. */
export interface BlobHead {
  readonly digest: Digest;
  /** Bytes; `undefined` where the upstream does not tell before the end. */
  readonly size: number | undefined;
  readonly contentType: string;
  readonly outcome: Outcome;
}

/** A blob on its way to a client; whoever got it disposes the body. */
export interface BlobReply extends BlobHead {
  readonly body: BlobBody;
}

/** What lets a wait end: read only where there is something to wait for. */
export interface Waiting {
  readonly signal: AbortSignal;
  /** Whether only a part of a blob is asked for. */
  readonly isRanged?: boolean;
}

/** Blobs through one repository: from this disk, from a fill under way, or from the upstream. */
export class Blobs {
  readonly #options: BlobsOptions;
  readonly #confirmations = new SingleFlight<BlobHead>();

  constructor(options: BlobsOptions) {
    this.#options = options;
  }

  /** The answer that needs no waiting: a small blob in memory that may be read. `undefined` where there is none. */
  #atHand(repository: Repository, digest: Digest): BlobReply | undefined {
    const { catalog, store } = this.#options;
    const small = store.small(digest);
    if (small === undefined || !catalog.grants.mayRead(repository.key, digest)) return undefined;
    return this.#stored(digest, { size: small.length, body: memoryBody(small) });
  }

  /**
   * A blob's content.
   * @throws RegistryError BLOB_UNKNOWN, DENIED, TOOMANYREQUESTS, UNAVAILABLE; the signal's reason
   */
  async get(repository: Repository, digest: Digest, waiting: Waiting): Promise<BlobReply> {
    const atHand = this.#atHand(repository, digest);
    if (atHand) return atHand;
    if (!this.#options.downloads.has(digest)) {
      const stored = await this.#open(repository, digest, waiting);
      if (stored) {
        try {
          await this.requireRight(repository, digest, waiting);
        } catch (error) {
          await stored.body[Symbol.asyncDispose]();
          throw error;
        }
        return this.#stored(digest, stored);
      }
    }
    return await this.#download(repository, digest, waiting);
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
    return await this.#download(repository, digest, failed);
  }

  /**
   * What a GET would answer, without the content; does not begin a fill.
   * @throws RegistryError as {@link get}
   */
  async head(repository: Repository, digest: Digest, waiting: Waiting): Promise<BlobHead> {
    const stored = await this.#open(repository, digest, waiting);
    if (!stored) return await this.#confirm(repository, digest, waiting);
    await stored.body[Symbol.asyncDispose]();
    await this.requireRight(repository, digest, waiting);
    return this.#stored(digest, stored);
  }

  /**
   * Bytes are shared between repositories, the right to read them is not: asks the upstream where it is not known.
   * @throws RegistryError as {@link get}; the signal's reason
   */
  async requireRight(repository: Repository, digest: Digest, waiting: Waiting): Promise<void> {
    if (!this.#options.catalog.grants.mayRead(repository.key, digest)) await this.#confirm(repository, digest, waiting);
  }

  #stored(digest: Digest, { size, body }: { size: number; body: BlobBody }): BlobReply {
    const { catalog } = this.#options;
    catalog.uses.touch(digest);
    return { digest, size, contentType: catalog.blobs.get(digest)?.contentType ?? octetStream, outcome: 'hit', body };
  }

  /** The blob on this disk, unless the disk cannot give it, or not rightly: then it is fetched as if it were not here. */
  async #open(
    repository: Repository,
    digest: Digest,
    waiting: Waiting,
  ): Promise<{ size: number; body: BlobBody } | undefined> {
    const { store, custody, onDiskFault } = this.#options;
    const { answerMs } = repository.upstream;
    try {
      let verifiedMs: number | undefined;
      while (true) {
        const blob = await store.open(digest);
        if (!blob) return undefined;
        const doubt = custody.doubt(digest, blob);
        const isVerified = verifiedMs !== undefined && verifiedMs === blob.modifiedAtMs;
        if (doubt === undefined || isVerified) return { size: blob.size, body: storedBody(blob) };
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

  async #download(repository: Repository, digest: Digest, waiting: Waiting): Promise<BlobReply> {
    const { catalog, downloads, negative, coordinator } = this.#options;
    const { answerMs } = repository.upstream;
    this.#refuseOffline(repository);
    const known = await negative.lookUp(repository, digest);
    if (known) throw known;
    // Another replica may have the bytes, and they would say nothing about the right to read them here.
    if (!coordinator.isAlone) await this.requireRight(repository, digest, waiting);
    const { fill, reader, begun } = downloads.join(digest, {
      repository: repository.key,
      sources: upstreamSources(repository),
      expectedSize: catalog.grants.expectedSize(repository.key, digest),
      isRanged: waiting.isRanged === true,
    });
    try {
      const heading = await withDeadline((signal) => this.#heading(reader, { digest, signal }), {
        answerMs,
        signal: waiting.signal,
      });
      await this.#checkJoined(repository, { fill, waiting });
      return { digest, ...heading, outcome: outcomeOf(fill, begun), body: reader };
    } catch (error) {
      await reader[Symbol.asyncDispose]();
      negative.note(repository, digest, error);
      throw error;
    }
  }

  /** @throws RegistryError 503 where all the time was spent waiting for other blobs; else what the reader throws */
  async #heading(
    reader: FillReader,
    { digest, signal }: { digest: Digest; signal: AbortSignal },
  ): Promise<BlobHeading> {
    try {
      return await reader.heading(signal);
    } catch (error) {
      if (!signal.aborted || !this.#options.downloads.isQueued(digest)) throw error;
      throw new RegistryError('no-place', 'this mirror is fetching as many blobs as it may; try again later', {
        headers: { 'Retry-After': '5' },
        cause: error,
      });
    }
  }

  /** A fill may have been answered for another repository: that says nothing about the right to read through this one. */
  async #checkJoined(repository: Repository, { fill, waiting }: { fill: Fill; waiting: Waiting }): Promise<void> {
    const { catalog } = this.#options;
    if (fill.confirmed.has(repository.key)) catalog.grants.grant(repository.key, fill.digest);
    else await this.requireRight(repository, fill.digest, waiting);
  }

  /** Asks the upstream whether it has a blob in this repository, and remembers that it has. */
  async #confirm(repository: Repository, digest: Digest, waiting: Waiting): Promise<BlobHead> {
    const { catalog, negative } = this.#options;
    const { answerMs } = repository.upstream;
    this.#refuseOffline(repository);
    const known = negative.get(repository, digest);
    if (known) throw known;
    const ask = () =>
      withDeadline((signal) => repository.upstream.client.headBlob(repository.name, digest, { signal }), { answerMs });
    try {
      const head = await this.#confirmations.run(
        `${repository.key} ${digest}`,
        async () => ({ digest, ...(await ask()), outcome: 'bypass' }),
        waiting,
      );
      catalog.grants.grant(repository.key, digest);
      return head;
    } catch (error) {
      negative.note(repository, digest, error);
      throw error;
    }
  }

  #refuseOffline(repository: Repository): void {
    if (!this.#options.offline) return;
    throw new RegistryError('offline', `this mirror is offline and has not stored this blob for ${repository.key}`, {
      code: 'BLOB_UNKNOWN',
    });
  }
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
