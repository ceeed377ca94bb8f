import type { Loan } from '../../memory/slabs.ts';
import { RegistryError } from '../../oci/error.ts';
import type { BlobBody } from '../body.ts';
import type { Fill } from '../fill/fill.ts';
import type { BlobHeading } from '../fill/transfer.ts';

/**
 * Another replica's way through a blob that is being filled here. It is given everything at once, the last part too:
 * wrong bytes could reach only its own clients, and it verifies them for those.
 */
export class PeerReader implements BlobBody {
  readonly bytes = undefined;
  readonly #fill: Fill;
  #generation: number | undefined;
  #disposed = false;

  constructor(fill: Fill) {
    fill.hold();
    this.#fill = fill;
  }

  /** Resolves when there are bytes from `position` on. @throws RegistryError when there will be none; the signal's reason */
  async ready(position: number, signal: AbortSignal): Promise<BlobHeading> {
    const fill = this.#fill;
    for (;;) {
      this.#check();
      const { heading } = fill;
      const isEnd = fill.state === 'verified' || position === heading?.size;
      if (heading && (isEnd || this.#available(position) > position || this.#isInMemory(position))) return heading;
      if (heading) fill.want(position);
      await fill.progress.wait(signal);
    }
  }

  async read(buffer: Buffer, position: number, signal: AbortSignal | undefined): Promise<number> {
    const fill = this.#fill;
    for (;;) {
      this.#check();
      using recent = this.peek(position);
      if (recent) return recent.bytes.copy(buffer);
      const { generation, partial } = fill;
      const available = this.#available(position);
      if (partial && position < available) {
        this.#generation = generation;
        const count = await partial.read(buffer, position, Math.min(buffer.length, available - position));
        if (generation === fill.generation) return count;
      } else if (fill.state === 'verified') {
        return 0;
      } else {
        fill.want(position);
        await fill.progress.wait(signal);
      }
    }
  }

  peek(position: number): Loan | undefined {
    const fill = this.#fill;
    if (this.#generation !== undefined && this.#generation !== fill.generation) return undefined;
    const recent = fill.unverifiedFrom(position);
    if (recent) this.#generation = fill.generation;
    return recent;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await this.#fill.release();
  }

  #isInMemory(position: number): boolean {
    using recent = this.#fill.unverifiedFrom(position);
    return recent !== undefined;
  }

  #available(position: number): number {
    return this.#fill.partial?.availableFrom(position) ?? 0;
  }

  /** @throws RegistryError where the bytes that come now cannot be joined to those before */
  #check(): void {
    const { state, generation } = this.#fill;
    const isVoid = this.#generation !== undefined && this.#generation !== generation;
    if (!isVoid && (state === 'running' || state === 'verified')) return;
    // Its own upstream may not have it for this repository: that says nothing about this replica.
    throw new RegistryError('not-found', 'this replica has given the blob up', { code: 'BLOB_UNKNOWN' });
  }
}
