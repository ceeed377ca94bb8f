import type { Digest } from '../oci/digest.ts';
import type { BlobStore } from '../store/blob-store.ts';
import { Fill, type FillObserver } from './fill.ts';
import { FillReader } from './fill-reader.ts';
import { type Source, SourceList } from './sources.ts';

export interface DownloadsOptions {
  readonly store: BlobStore;
  readonly observer: FillObserver;
  /** Called when a blob has become visible in the store. */
  readonly onStored: (digest: Digest, blob: { size: number; contentType: string }) => void;
}

/** What somebody who wants a blob brings along. */
export interface Joiner {
  /** The repository it is read through, as the cache names it. */
  readonly repository: string;
  readonly sources: readonly Source[];
  /** Bytes, as the repository's manifest says. */
  readonly expectedSize: number | undefined;
}

/** The fills under way: one per digest, whoever asks. */
export class Downloads implements AsyncDisposable {
  readonly #options: DownloadsOptions;
  readonly #fills = new Map<Digest, Fill>();
  readonly #running = new Set<Promise<void>>();

  constructor(options: DownloadsOptions) {
    this.#options = options;
  }

  /** Fills under way. */
  get count(): number {
    return this.#fills.size;
  }

  /** Whether a blob is being filled now. */
  has(digest: Digest): boolean {
    return this.#fills.has(digest);
  }

  /**
   * A reader of the fill of a digest, begun now unless it is under way. The right to read is the caller's to check.
   * @returns the fill and a reader that the caller has to dispose
   */
  join(digest: Digest, joiner: Joiner): { fill: Fill; reader: FillReader; begun: boolean } {
    const running = this.#fills.get(digest);
    const fill = running ?? this.#create(digest);
    fill.sources.add(joiner.sources);
    if (joiner.expectedSize !== undefined) fill.expectedSizes.add(joiner.expectedSize);
    const reader = new FillReader(fill, joiner);
    if (!running) this.#start(fill);
    return { fill, reader, begun: running === undefined };
  }

  /** Stops all fills, leaving their partial files to be continued. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const fill of this.#fills.values()) fill.stop();
    await Promise.all(this.#running);
  }

  #create(digest: Digest): Fill {
    const { store, observer, onStored } = this.#options;
    return new Fill({
      digest,
      store,
      sources: new SourceList(),
      observer,
      onStored: (blob) => onStored(digest, blob),
    });
  }

  #start(fill: Fill): void {
    this.#fills.set(fill.digest, fill);
    const running = fill.run().finally(() => {
      this.#fills.delete(fill.digest);
      this.#running.delete(running);
    });
    this.#running.add(running);
  }
}
