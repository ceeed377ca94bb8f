import { randomBytes } from 'node:crypto';
import { open } from 'node:fs/promises';
import { type Digest, digestAlgorithm } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import { Locks } from '../waiting/locks.ts';
import { Slots } from '../waiting/slots.ts';
import type { HostedLayout } from './layout.ts';
import { PendingUploads } from './pending-uploads.ts';
import { outOfOrder } from './refusals.ts';
import { SessionFiles, unknownUpload } from './session-files.ts';
import { digestOfUpload, RunningHash, SyncError, UploadWriter } from './upload-writer.ts';

/** How many threads of the pool wait for the disk at most: hits need the others. */
const syncsAtOnce = 2;
const never = { signal: new AbortController().signal };
/** An upload that has received nothing for so long is ended where it is in the way of others, in milliseconds. */
const abandonedAfterMs = 10 * 60_000;
/** When a client that has too many uploads may try again, in seconds. */
const retryAfterSeconds = 60;

export interface UploadsOptions {
  readonly layout: HostedLayout;
  /** Largest blob, in bytes. */
  readonly maxBlobBytes: number;
  /** A session that nothing was sent to for so long is removed, in milliseconds. */
  readonly expiryMs: number;
  /** How many sessions one client may have at a time; read each time. Default: any number. */
  readonly maxPerCaller?: () => number;
  /**
   * Calls `take` in the turn in which so many bytes more fit into a repository. Default: at once.
   * @throws RegistryError QUOTA_EXCEEDED (413); Error of the file system
   */
  readonly claim?: (repository: string, bytes: number, take: () => void) => Promise<void>;
  /** Wall clock in milliseconds. */
  readonly now: () => number;
}

/** A chunk of a blob as it arrives. */
export interface Chunk {
  /** Several pieces at a time. Their memory is given back as soon as they are written: nothing else may use them. */
  readonly body: AsyncIterable<readonly Buffer[]>;
  /** Where it belongs, by `Content-Range`: bytes `start` to `end` (exclusive). Absent: at the end of what is there. */
  readonly range?: { readonly start: number; readonly end: number } | undefined;
  /** `Content-Length`, in bytes. */
  readonly length?: number | undefined;
}

/** A session as a client sees it. */
export interface Upload {
  readonly id: string;
  /** Bytes that are here. */
  readonly received: number;
}

/** A blob that has arrived whole and right, in a file that is synced. */
export interface Arrived {
  readonly path: string;
  readonly size: number;
  /** To be called when its bytes count as the repository's: until then they count as those of the upload. */
  readonly release?: () => void;
}

/**
 * Blobs on their way here (distribution-spec, "Pushing blobs"). A session is a folder with the bytes so far and the
 * repository it belongs to, so it outlives the process; the offset is the size of the file, wherever it was written.
 */
export class Uploads {
  readonly #options: UploadsOptions;
  readonly #locks = new Locks();
  readonly #syncs = new Slots(syncsAtOnce);
  /** The running sha256 of sessions that have been written to since the start, and how far it goes. */
  readonly #hashes = new Map<string, RunningHash>();
  readonly #pending: PendingUploads;
  readonly #files: SessionFiles;
  #loading: Promise<void> | undefined;

  constructor(options: UploadsOptions) {
    this.#options = options;
    this.#pending = new PendingUploads(options.now);
    this.#files = new SessionFiles(options.layout, options.now);
  }

  /**
   * Begins a session. @param caller a key of the client; the sessions of each are counted
   * @throws RegistryError TOOMANYREQUESTS (429) where the client has too many; Error of the file system
   */
  async begin(repository: string, caller = ''): Promise<Upload> {
    await this.#loaded();
    await this.#requireFew(caller);
    const id = randomBytes(16).toString('hex');
    this.#pending.add(id, { repository, caller, bytes: 0 });
    using _ = this.#pending.receiving(id);
    try {
      await this.#files.create(id, { repository, caller });
    } catch (error) {
      await this.#remove(id).catch(() => undefined);
      throw error;
    }
    return { id, received: 0 };
  }

  /** Bytes of the sessions of a repository. @throws Error of the file system */
  async bytes(repository: string): Promise<number> {
    await this.#loaded();
    return this.pendingBytes(repository);
  }

  /** As {@link bytes}, of the sessions that are known already. */
  pendingBytes(repository: string): number {
    return this.#pending.bytes(repository);
  }

  /** Ends the sessions of a repository that have been left alone for long. @returns whether there were any */
  async endAbandoned(repository: string): Promise<boolean> {
    return await this.#endIdle({ repository });
  }

  /** @throws RegistryError BLOB_UPLOAD_UNKNOWN */
  async get(repository: string, id: string): Promise<Upload> {
    return { id, received: await this.#files.received(repository, id) };
  }

  /**
   * Adds a chunk. What arrived before the client left stays, to be continued.
   * @throws RegistryError BLOB_UPLOAD_UNKNOWN; 416 where the chunk does not follow what is here; SIZE_INVALID; the session
   *   goes on after the latter two
   */
  async append(repository: string, id: string, chunk: Chunk): Promise<Upload> {
    await this.#loaded();
    using session = this.#pending.receiving(id);
    using _ = await this.#locks.take(id);
    return { id, received: await this.#append(repository, id, { ...chunk, ...session }) };
  }

  /**
   * Ends a session with its last chunk, if any, and checks the digest of the whole.
   * @param keep takes the file where the digest is right; the session is gone when it has resolved
   * @throws RegistryError as {@link append}; DIGEST_INVALID, which ends the session too
   */
  async finish<Result>(
    repository: string,
    id: string,
    { digest, chunk, keep }: { digest: Digest; chunk: Chunk; keep: (arrived: Arrived) => Promise<Result> },
  ): Promise<Result> {
    await this.#loaded();
    using session = this.#pending.receiving(id);
    using _ = await this.#locks.take(id);
    const size = await this.#append(repository, id, { ...chunk, ...session });
    const path = this.#files.data(id);
    const actual = await digestOfUpload(path, { size, algorithm: digestAlgorithm(digest), hash: this.#hashes.get(id) });
    if (actual !== digest) {
      await this.#remove(id);
      throw new RegistryError('damaged', `the ${size} bytes that were sent are not the blob of that digest`, {
        detail: { expected: digest, actual },
      });
    }
    await this.#sync(id, path);
    const result = await keep({ path, size, release: () => this.#pending.remove(id) });
    await this.#remove(id);
    return result;
  }

  /** Ends a session, also one that is being sent to. @throws RegistryError BLOB_UPLOAD_UNKNOWN */
  async cancel(repository: string, id: string): Promise<void> {
    await this.#files.received(repository, id);
    this.#pending.interrupt(id, unknownUpload());
    using _ = await this.#locks.take(id);
    await this.#files.received(repository, id);
    await this.#remove(id);
  }

  /** Removes sessions that nothing was sent to for too long. @returns how many */
  async sweep(): Promise<number> {
    const { expiryMs, now } = this.#options;
    await this.#loaded();
    let removed = 0;
    const isExpired = async (id: string): Promise<boolean> => now() - (await this.#files.usedAtMs(id)) >= expiryMs;
    for (const id of await this.#files.ids()) {
      // One that is being sent to is not waited for.
      if (this.#pending.isReceiving(id) || !(await isExpired(id))) continue;
      using _ = await this.#locks.take(id);
      if (!(await isExpired(id))) continue;
      await this.#remove(id);
      removed += 1;
    }
    return removed;
  }

  /** Counts the sessions that an earlier run has left. */
  async #loaded(): Promise<void> {
    this.#loading ??= this.#load().catch((error: unknown) => {
      this.#loading = undefined;
      throw error;
    });
    await this.#loading;
  }

  async #load(): Promise<void> {
    for (const id of await this.#files.ids()) {
      const session = await this.#files.read(id);
      if (session !== undefined) this.#pending.add(id, session);
    }
  }

  /** @throws RegistryError TOOMANYREQUESTS (429) */
  async #requireFew(caller: string): Promise<void> {
    const most = this.#options.maxPerCaller?.() ?? Number.POSITIVE_INFINITY;
    if (this.#pending.count(caller) >= most) await this.#endIdle({ caller });
    if (this.#pending.count(caller) < most) return;
    const sentence = `${most} uploads that this client has begun have not ended (hosted.maxUploads): finish or cancel some`;
    throw new RegistryError('too-many-uploads', sentence, { headers: { 'Retry-After': String(retryAfterSeconds) } });
  }

  /** @returns whether any were ended */
  async #endIdle(which: { readonly repository?: string; readonly caller?: string }): Promise<boolean> {
    const idle = this.#pending.idle(abandonedAfterMs, which);
    let ended = 0;
    for (const id of idle) {
      // One that goes on meanwhile is not waited for.
      if (this.#pending.isReceiving(id)) continue;
      using _ = await this.#locks.take(id);
      if (this.#pending.isReceiving(id)) continue;
      await this.#remove(id);
      ended += 1;
    }
    return ended > 0;
  }

  async #append(
    repository: string,
    id: string,
    { body, range, length, signal }: Chunk & { readonly signal: AbortSignal },
  ): Promise<number> {
    signal.throwIfAborted();
    const received = await this.#files.received(repository, id);
    if (range !== undefined && range.start !== received) throw outOfOrder(range, received);
    if (range !== undefined && length !== undefined && length !== range.end - range.start) {
      throw new RegistryError('wrong-length', 'Content-Range and Content-Length do not agree');
    }
    // The announced size is reserved at once: of several that do not fit together, the first ones come through.
    if (length !== undefined) await this.#allow(repository, id, received + length);
    await using handle = await open(this.#files.data(id), 'r+');
    let running = this.#hashes.get(id);
    if (running === undefined && received === 0) this.#hashes.set(id, (running = new RunningHash()));
    const writer = new UploadWriter(handle, { at: received, syncs: this.#syncs, hash: running });
    try {
      await writer.write(body, { signal, allow: (total) => this.#allow(repository, id, total) });
    } catch (error) {
      this.#pending.setSize(id, writer.position);
      if (error instanceof SyncError) await this.#remove(id);
      throw error;
    }
    this.#pending.setSize(id, writer.position);
    const written = writer.position - received;
    const expected = range === undefined ? length : range.end - range.start;
    if (expected === undefined || written === expected) return writer.position;
    // A chunk that is wrong is not kept: its sender begins it again.
    await handle.truncate(received);
    this.#pending.setSize(id, received);
    this.#hashes.delete(id);
    throw new RegistryError('wrong-length', `the chunk has ${written} bytes instead of ${expected}`);
  }

  /** @throws SyncError, and the session is gone */
  async #sync(id: string, path: string): Promise<void> {
    await using handle = await open(path, 'r');
    try {
      await this.#syncs.run(() => handle.sync(), never);
    } catch (cause) {
      await this.#remove(id);
      throw new SyncError(cause);
    }
  }

  /** @throws RegistryError SIZE_INVALID (413), QUOTA_EXCEEDED (413); Error of the file system */
  async #allow(repository: string, id: string, total: number): Promise<void> {
    const { maxBlobBytes, claim } = this.#options;
    if (total > maxBlobBytes) {
      throw new RegistryError('blob-too-large', `a blob may have at most ${maxBlobBytes} bytes here`);
    }
    const more = total - this.#pending.size(id);
    if (more <= 0) return;
    const take = (): void => this.#pending.setSize(id, total);
    if (claim === undefined) take();
    else await claim(repository, more, take);
  }

  async #remove(id: string): Promise<void> {
    this.#hashes.delete(id);
    this.#pending.remove(id);
    await this.#files.remove(id);
  }
}
