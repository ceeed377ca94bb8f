import type { Hash } from 'node:crypto';
import { type Digest, digestAlgorithm, finishDigest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/error.ts';
import type { Report } from '../../oci/report.ts';
import { heldBackBytes } from './fill.ts';
import type { TransferEvent } from './fill-events.ts';
import { DirectRoute, type SourceList } from './sources.ts';
import { type BlobHeading, Transfer } from './transfer.ts';

export interface PassThroughOptions {
  readonly digest: Digest;
  readonly sources: SourceList;
  /** First byte requested. */
  readonly offset: number;
  /** The hash of the bytes before `offset`. */
  readonly hash: Hash;
  readonly expectedSizes: ReadonlySet<number>;
  readonly report: Report<TransferEvent>;
  /** @param repository that the answer confirms, if any */
  readonly onAnswer: (heading: BlobHeading, repository: string | undefined) => void;
}

/**
 * A blob passed directly from its sources to one client, because the disk cannot store it: still verified, with its last
 * part held back until the digest is right.
 */
export class PassThrough implements AsyncDisposable {
  readonly #options: PassThroughOptions;
  readonly #abort = new AbortController();
  readonly #chunks: AsyncGenerator<Buffer, void, undefined>;
  readonly #hash: Hash;
  /** Bytes that have arrived and not been read yet, with the held-back part at the end. */
  readonly #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #verified = false;

  constructor(options: PassThroughOptions) {
    this.#options = options;
    this.#hash = options.hash;
    this.#chunks = new Transfer({
      ...options,
      route: new DirectRoute(options.sources),
      mayStartOver: true,
      isAwaited: () => options.offset > 0,
      onAnswer: (source, heading) => {
        options.onAnswer(heading, source.replica === undefined ? source.repository : undefined);
        return true;
      },
      signal: this.#abort.signal,
    }).bytes();
  }

  /** Waits until a source has answered. @throws RegistryError; the signal's reason */
  async begin(signal: AbortSignal | undefined): Promise<void> {
    if (this.#waitingBytes === 0 && !this.#verified) await this.#pull(signal);
  }

  /**
   * Reads the next bytes.
   * @returns their number, 0 at the end
   * @throws RegistryError, also for a wrong digest; the signal's reason, after which nothing more can be read
   */
  async read(buffer: Buffer, signal: AbortSignal | undefined): Promise<number> {
    while (!this.#verified && this.#waitingBytes <= heldBackBytes) await this.#pull(signal);
    const free = Math.min(buffer.length, this.#waitingBytes - (this.#verified ? 0 : heldBackBytes));
    let count = 0;
    while (count < free) {
      const chunk = this.#waiting[0]!;
      const taken = chunk.copy(buffer, count, 0, Math.min(chunk.length, free - count));
      count += taken;
      if (taken === chunk.length) this.#waiting.shift();
      else this.#waiting[0] = chunk.subarray(taken);
    }
    this.#waitingBytes -= count;
    return count;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort();
    await this.#chunks.return();
  }

  async #pull(signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted();
    const abandon = () => this.#abort.abort(signal?.reason);
    signal?.addEventListener('abort', abandon, { once: true });
    const { value: chunk, done } = await this.#chunks
      .next()
      .finally(() => signal?.removeEventListener('abort', abandon));
    if (!done) {
      this.#hash.update(chunk);
      this.#waiting.push(chunk);
      this.#waitingBytes += chunk.length;
      return;
    }
    const { digest } = this.#options;
    if (finishDigest(digestAlgorithm(digest), this.#hash) !== digest) {
      throw new RegistryError('wrong-bytes', 'the upstream sent bytes that are not this blob');
    }
    this.#verified = true;
  }
}
