import type { PartialBlob } from '../../store/blob-store.ts';

/** A batch of this size is written at once. */
const batchBytes = 1024 * 1024;
/** A smaller one waits this long for more: a system call per 64 KiB costs more than the bytes do. */
const lingerMs = 3;
/** Above this many unwritten bytes the source has to wait. */
const maxPendingBytes = 4 * 1024 * 1024;
/** The first bytes are written as they come: a client waits for them. */
const eagerBytes = 256 * 1024;

/** Collects chunks into batches; one batch is being written while the next is filled. */
export class BatchWriter {
  readonly #partial: PartialBlob;
  readonly #onWritten: () => void;
  #position: number;
  #writtenBytes = 0;
  #queue: Buffer[] = [];
  #queuedBytes = 0;
  #writingBytes = 0;
  #writing: Promise<void> | undefined;
  #linger: NodeJS.Timeout | undefined;
  #fault: Error | undefined;

  /** @param position where in the blob the first chunk belongs */
  constructor(partial: PartialBlob, { position, onWritten }: { position: number; onWritten: () => void }) {
    this.#partial = partial;
    this.#position = position;
    this.#onWritten = onWritten;
  }

  /** Takes a chunk; resolves when there is room for the next. @throws DiskFault of this or an earlier chunk */
  async write(chunk: Buffer): Promise<void> {
    if (chunk.length === 0) return;
    this.#queue.push(chunk);
    this.#queuedBytes += chunk.length;
    if (this.#isDue) this.#start();
    else this.#linger ??= setTimeout(() => this.#start(), lingerMs);
    while (this.#queuedBytes + this.#writingBytes >= maxPendingBytes) await this.#writing;
    if (this.#fault !== undefined) throw this.#fault;
  }

  /** Resolves when everything taken is on disk. @throws DiskFault */
  async flush(): Promise<void> {
    while (this.#queue.length > 0 || this.#writing !== undefined) {
      this.#start();
      await this.#writing;
    }
    clearTimeout(this.#linger);
    if (this.#fault !== undefined) throw this.#fault;
  }

  /** Whether what is queued is to be written without waiting for more. */
  get #isDue(): boolean {
    return this.#queuedBytes >= batchBytes || this.#writtenBytes < eagerBytes;
  }

  #start(): void {
    clearTimeout(this.#linger);
    this.#linger = undefined;
    this.#writing ??= this.#drain();
  }

  // Never rejects: nobody may be waiting for it.
  async #drain(): Promise<void> {
    // Leaves the caller's turn, so that #writing is set before it can be cleared.
    await Promise.resolve();
    while (this.#queue.length > 0) {
      const batch = this.#queue;
      this.#writingBytes = this.#queuedBytes;
      this.#queue = [];
      this.#queuedBytes = 0;
      try {
        if (this.#fault === undefined) {
          await this.#partial.write(this.#position, batch);
          this.#position += this.#writingBytes;
          this.#writtenBytes += this.#writingBytes;
          this.#onWritten();
        }
      } catch (error) {
        this.#fault = error as Error;
      } finally {
        this.#writingBytes = 0;
      }
      if (this.#queue.length > 0 && !this.#isDue) {
        this.#linger ??= setTimeout(() => this.#start(), lingerMs);
        break;
      }
    }
    this.#writing = undefined;
  }
}
