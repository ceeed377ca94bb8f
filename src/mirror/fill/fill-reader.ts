import type { Loan } from '../../memory/slabs.ts';
import { hasherFor } from '../../oci/digest.ts';
import { hasReason, RegistryError } from '../../oci/error.ts';
import type { BlobBody } from '../body.ts';
import type { Fill } from './fill.ts';
import { PassThrough } from './pass-through.ts';
import type { BlobHeading } from './transfer.ts';
import { UnsettledBytes } from './unsettled-bytes.ts';

export interface FillReaderOptions {
  /** The repository it is read through, as the cache names it. */
  readonly repository: string;
  /** Bytes, as the repository's manifest says. */
  readonly expectedSize: number | undefined;
  /** Whether only a part of the blob is wanted. */
  readonly isRanged: boolean;
}

/** One client's way through a blob that is being filled, at its own pace. */
export class FillReader implements BlobBody {
  readonly bytes = undefined;
  readonly #fill: Fill;
  /** The repository through which this client reads, as the cache names it. */
  readonly #repository: string;
  readonly #expectedSize: number | undefined;
  #generation: number | undefined;
  /** The heading that the client has been sent. */
  #promised: BlobHeading | undefined;
  #rest: PassThrough | undefined;
  #restPosition = 0;
  readonly #unsettled: UnsettledBytes;
  #disposed = false;

  constructor(fill: Fill, { repository, expectedSize, isRanged }: FillReaderOptions) {
    fill.hold();
    this.#unsettled = new UnsettledBytes({ isPart: isRanged });
    this.#fill = fill;
    this.#repository = repository;
    this.#expectedSize = expectedSize;
  }

  /**
   * Resolves when a source has answered for the blob.
   * @throws RegistryError when none will; the signal's reason
   */
  async heading(signal: AbortSignal): Promise<BlobHeading> {
    while (this.#fill.heading === undefined) {
      if (this.#fill.state === 'failed') throw this.#failure();
      if (this.#fill.state === 'spilled') await this.#openRest(signal);
      else await this.#fill.progress.wait(signal);
    }
    const { heading } = this.#fill;
    if (this.#expectedSize !== undefined && heading.size !== undefined && heading.size !== this.#expectedSize) {
      throw new RegistryError(
        'wrong-size',
        `the blob has ${heading.size} bytes, its manifest says ${this.#expectedSize}`,
      );
    }
    this.#promised = heading;
    return heading;
  }

  async read(buffer: Buffer, position: number, signal: AbortSignal | undefined): Promise<number> {
    const fill = this.#fill;
    while (true) {
      if (!this.#isAsPromised) throw this.#failure();
      if (this.#rest) {
        try {
          return await this.#readRest(buffer, position, signal);
        } catch (error) {
          // Those of the file may be the wrong ones: until it is removed, other clients would begin with them, too.
          if (hasReason(error, 'wrong-bytes')) fill.isVoid = true;
          throw error;
        }
      }
      // Bytes from before wrong bytes were found cannot be joined to those that come after.
      if (this.#generation !== undefined && this.#generation !== fill.generation) throw this.#failure();
      // Bytes that are still in memory cost less than the same ones from the file.
      using recent = this.peek(position);
      if (recent) return recent.bytes.copy(buffer);
      const { generation, partial } = fill;
      const readable = fill.readableFrom(position);
      if (partial && position < readable) {
        this.#generation = generation;
        fill.markHanded(position);
        const length = Math.min(buffer.length, readable - position);
        try {
          const count = await partial.read(buffer, position, length);
          if (generation === fill.generation) {
            // The buffer is used again: what lies beyond the hashed part has to be kept as a copy.
            const isHashed = position + count <= partial.written;
            const bytes = buffer.subarray(0, count);
            this.#unsettled.add(position, isHashed ? bytes : Buffer.from(bytes), partial.written);
            return count;
          }
        } catch (error) {
          // The file may have been restarted during this read.
          if (generation === fill.generation) throw error;
        }
      } else if (fill.state === 'verified') {
        return 0;
      } else if (fill.state === 'failed') {
        throw this.#failure();
      } else if (fill.state === 'spilled') {
        await this.#openRest(signal);
      } else {
        fill.want(position);
        await fill.progress.wait(signal);
      }
    }
  }

  peek(position: number): Loan | undefined {
    const fill = this.#fill;
    const isVoid = this.#generation !== undefined && this.#generation !== fill.generation;
    if (isVoid || this.#rest || !this.#isAsPromised) return undefined;
    const recent = fill.recentFrom(position);
    if (recent) {
      this.#generation = fill.generation;
      fill.markHanded(position);
      this.#unsettled.add(position, recent, fill.partial?.written ?? 0);
    }
    return recent;
  }

  async arrival(position: number, signal: AbortSignal | undefined): Promise<void> {
    const fill = this.#fill;
    const isVoid = this.#generation !== undefined && this.#generation !== fill.generation;
    if (isVoid || this.#rest || !this.#isAsPromised || fill.state !== 'running') return;
    if (position < fill.readableFrom(position)) return;
    fill.want(position);
    await fill.progress.wait(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#unsettled[Symbol.dispose]();
    await this.#rest?.[Symbol.asyncDispose]();
    await this.#fill.release();
  }

  get isOutdated(): boolean {
    return !this.#isAsPromised && this.#fill.state !== 'failed';
  }

  /** Whether the blob still has the size that the client's headers say: the source that gave it may have proved wrong. */
  get #isAsPromised(): boolean {
    const { heading } = this.#fill;
    return !heading || this.#promised?.size === undefined || heading.size === this.#promised.size;
  }

  #failure(): unknown {
    return this.#fill.failure(this.#repository);
  }

  /** The disk has failed: goes on from its last good byte, without it. */
  async #openRest(signal: AbortSignal | undefined): Promise<void> {
    const fill = this.#fill;
    const written = fill.partial?.written ?? 0;
    this.#restPosition = written;
    this.#rest = new PassThrough({
      digest: fill.digest,
      sources: fill.sources,
      offset: written,
      hash: fill.partial?.hashSoFar() ?? hasherFor(fill.digest),
      expectedSizes: fill.expectedSizes,
      report: fill.report,
      onAnswer: (heading, repository) => {
        if (repository !== undefined) fill.confirmed.add(repository);
        fill.adoptHeading(heading);
      },
    });
    try {
      await this.#rest.begin(signal);
    } catch (error) {
      // A client whose time is over gets that as the reason, not what the sources have said so far.
      throw signal?.aborted ? error : fill.sources.errorFor(this.#repository);
    }
  }

  async #readRest(buffer: Buffer, position: number, signal: AbortSignal | undefined): Promise<number> {
    const rest = this.#rest!;
    const { partial } = this.#fill;
    // The rest begins where the file ends; the held-back end of the file itself is still to be read.
    if (position < this.#restPosition && partial && position < partial.written) {
      return await partial.read(buffer, position, Math.min(buffer.length, partial.written - position));
    }
    while (this.#restPosition < position) {
      const before = buffer.subarray(0, Math.min(buffer.length, position - this.#restPosition));
      const skipped = await rest.read(before, signal);
      if (skipped === 0) return 0;
      // The client has these bytes, from a transfer whose digest will never be known.
      if (!this.#unsettled.agrees(this.#restPosition, before.subarray(0, skipped))) {
        throw new RegistryError('wrong-bytes', 'the upstream gave other bytes of this blob before the disk failed');
      }
      this.#restPosition += skipped;
    }
    const count = await rest.read(buffer, signal);
    this.#restPosition += count;
    return count;
  }
}
