import { giveBack, type Loan, roomFor, type Slab, type SlabPart, type Slabs } from '../../memory/slabs.ts';
import type { PartialBlob } from './blob-store.ts';

/** A batch of this size is written at once. */
const batchBytes = 1024 * 1024;
/** A smaller one waits this long for more: readers have the bytes from memory, and each write costs a thread's turn. */
const lingerMs = 50;
/** Above this many unwritten bytes the source has to wait. */
const maxPendingBytes = 4 * 1024 * 1024;

export interface BatchWriterOptions {
  /** Where in the blob the first chunk belongs. */
  readonly position: number;
  readonly slabs: Slabs;
  /** How many bytes are still to come; infinite if unknown. */
  readonly expectedBytes: () => number;
  /** Bytes have come, and are on their way to the disk. */
  readonly onTaken: (position: number, part: SlabPart) => void;
  readonly onWritten: () => void;
}

/** Gathers chunks into batches; one batch is being written while the next is filled. */
export class BatchWriter implements AsyncDisposable {
  readonly #partial: PartialBlob;
  readonly #options: BatchWriterOptions;
  /** Where the next chunk belongs. */
  #takenTo: number;
  /** The bytes before it are on disk, or could not be written. */
  #settledTo: number;
  #slab: Slab | undefined;
  /** The start of the part that is not queued yet. */
  #queuedTo = 0;
  #queue: Loan[] = [];
  #writingBytes = 0;
  #writing: Promise<void> | undefined;
  #linger: NodeJS.Timeout | undefined;
  #fault: Error | undefined;

  constructor(partial: PartialBlob, options: BatchWriterOptions) {
    this.#partial = partial;
    this.#options = options;
    this.#takenTo = options.position;
    this.#settledTo = options.position;
  }

  /**
   * Takes a chunk, which is not to be used afterwards; resolves when there is room for the next. Where it lies in a slab it
   * is taken where it is; otherwise it is copied to one, and its own memory is given back.
   * @throws DiskFault of this or an earlier chunk
   */
  async write(chunk: Buffer): Promise<void> {
    if (chunk.length === 0) return;
    const part = this.#options.slabs.partOf(chunk);
    if (part) this.#takePart(part);
    else {
      this.#take(chunk);
      giveBack(chunk);
    }
    if (this.#isDue) this.#start();
    else this.#linger ??= setTimeout(() => this.#start(), lingerMs);
    while (this.#pendingBytes >= maxPendingBytes * roomFor(this.#options.slabs)) {
      this.#start();
      await this.#writing;
    }
    if (this.#fault !== undefined) throw this.#fault;
  }

  /** Resolves when everything taken is on disk. @throws DiskFault */
  async flush(): Promise<void> {
    while (this.#pendingBytes > 0) {
      this.#start();
      await this.#writing;
    }
    clearTimeout(this.#linger);
    if (this.#fault !== undefined) throw this.#fault;
  }

  /** Ends it; what is not on disk then is lost. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.flush().catch(() => undefined);
    this.#slab?.release();
    this.#slab = undefined;
  }

  #takePart(part: SlabPart): void {
    this.#leaveSlab();
    this.#options.onTaken(this.#takenTo, part);
    this.#takenTo += part.end - part.start;
    this.#queue.push(part.slab.lend(part.start, part.end));
  }

  #take(chunk: Buffer): void {
    for (let rest = chunk; rest.length > 0; ) {
      const slab = (this.#slab ??= this.#options.slabs.take(Math.max(this.#options.expectedBytes(), rest.length)));
      const start = slab.length;
      const count = slab.fill(rest);
      this.#options.onTaken(this.#takenTo, { slab, start, end: slab.length });
      this.#takenTo += count;
      rest = rest.subarray(count);
      if (slab.isFull) this.#leaveSlab();
    }
  }

  /** No more is copied to the slab. */
  #leaveSlab(): void {
    this.#enqueue();
    this.#slab?.release();
    this.#slab = undefined;
    this.#queuedTo = 0;
  }

  /** Queues what has come since the last time. */
  #enqueue(): void {
    const slab = this.#slab;
    if (slab === undefined || slab.length === this.#queuedTo) return;
    this.#queue.push(slab.lend(this.#queuedTo, slab.length));
    this.#queuedTo = slab.length;
  }

  /** Taken, and not on disk yet. */
  get #pendingBytes(): number {
    return this.#takenTo - this.#settledTo;
  }

  /** Taken, and not being written yet. */
  get #waitingBytes(): number {
    return this.#pendingBytes - this.#writingBytes;
  }

  /** Whether what waits is to be written without waiting for more. */
  get #isDue(): boolean {
    return this.#waitingBytes >= batchBytes;
  }

  #start(): void {
    clearTimeout(this.#linger);
    this.#linger = undefined;
    this.#writing ??= this.#drain();
  }

  // Never rejects, because no caller may be waiting for it.
  async #drain(): Promise<void> {
    // Leaves the caller's turn, so that #writing is set before it can be cleared.
    await Promise.resolve();
    while (this.#waitingBytes > 0) {
      this.#enqueue();
      const batch = this.#queue;
      this.#writingBytes = this.#pendingBytes;
      this.#queue = [];
      try {
        if (this.#fault === undefined) {
          await this.#partial.write(
            this.#settledTo,
            batch.map(({ bytes }) => bytes),
          );
        }
      } catch (error) {
        this.#fault = error as Error;
      } finally {
        for (const loan of batch) loan[Symbol.dispose]();
        this.#settledTo += this.#writingBytes;
        this.#writingBytes = 0;
      }
      if (this.#fault === undefined) this.#options.onWritten();
      if (this.#waitingBytes > 0 && !this.#isDue) {
        this.#linger ??= setTimeout(() => this.#start(), lingerMs);
        break;
      }
    }
    this.#writing = undefined;
  }
}
