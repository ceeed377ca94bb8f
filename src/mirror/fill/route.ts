import type { NextOptions, Source, SourceList } from './sources.ts';

/** Decides which source a fill reads next, and learns the result. */
export interface Route {
  /** Whether the blob is to be kept on this disk. */
  readonly isKept: boolean;
  /** Whether it reads from another replica now. */
  readonly isFollowing: boolean;
  /** Whether other replicas may read what it has so far. */
  readonly isServing: boolean;
  /** The source to read from; `undefined` if none is left. @throws the signal's reason */
  next(options: NextOptions, signal: AbortSignal): Promise<Source | undefined>;
  /** Aborted when a source is no longer the one to read from. */
  guard(source: Source): AbortSignal | undefined;
  /** Call it before a source is opened; dispose the result when the connection is finished. @throws the signal's reason */
  enter(source: Source, signal: AbortSignal): Promise<AsyncDisposable | undefined>;
  /** Bytes have arrived. */
  received(): void;
  failed(source: Source, error: unknown): void;
  /** These replicas sent bytes of a transfer that was not the blob. */
  wrongBytes(replicas: readonly Source[]): void;
  /** The fill is over. */
  end(isStored: boolean): Promise<void>;
}

/** The sources in their order, without coordination. */
export class DirectRoute implements Route {
  readonly isKept = true;
  readonly isFollowing = false;
  readonly isServing = false;
  readonly #sources: SourceList;

  constructor(sources: SourceList) {
    this.#sources = sources;
  }

  next(options: NextOptions): Promise<Source | undefined> {
    return Promise.resolve(this.#sources.next(options));
  }

  guard(): AbortSignal | undefined {
    return undefined;
  }

  enter(): Promise<undefined> {
    return Promise.resolve(undefined);
  }

  received(): void {}

  failed(): void {}

  wrongBytes(): void {}

  async end(): Promise<void> {}
}
