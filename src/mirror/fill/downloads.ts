import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/error.ts';
import type { BlobRecord } from '../../store/catalog/blob-records.ts';
import type { BlobStore } from '../../store/files/blob-store.ts';
import { Places } from '../../waiting/places.ts';
import { untilAborted } from '../../waiting/until-aborted.ts';
import { PeerReader } from '../sharing/peer-reader.ts';
import { Slabs } from '../slabs.ts';
import { Fill } from './fill.ts';
import type { FillObserver } from './fill-events.ts';
import { FillReader } from './fill-reader.ts';
import type { Joiner } from './joiner.ts';
import { DirectRoute, type Route } from './route.ts';
import { SourceList } from './sources.ts';

export interface DownloadsOptions {
  readonly store: BlobStore;
  readonly observer: FillObserver;
  /** Says where a fill reads from. */
  readonly route: (digest: Digest, sources: SourceList, options: { isOwned: boolean }) => Route;
  /** `maxFills`: how many blobs may be fetched at a time; read each time, as it may be changed while the mirror runs. */
  readonly limits: { readonly maxFills: number };
  /** Called when a blob has become visible in the store. */
  readonly onStored: (digest: Digest, blob: BlobRecord) => void;
  /** The memory that blobs pass through; absent: some of its own. */
  readonly slabs?: Slabs | undefined;
}

export interface BringOptions {
  readonly signal: AbortSignal;
  readonly onProgress?: (doneBytes: number, totalBytes: number | undefined) => void;
}

/** How far a fill has come. */
export interface FillProgress {
  readonly digest: Digest;
  readonly writtenBytes: number;
  /** `undefined` until a source has told it. */
  readonly sizeBytes: number | undefined;
  /** Repository and URL of each place that the bytes can come from. */
  readonly sources: readonly string[];
  /** Clients that follow it now. */
  readonly readers: number;
}

interface Download {
  readonly fill: Fill;
  running: Promise<void>;
  /** It was stopped for the sake of others: whoever comes now begins it anew. */
  hasYielded: boolean;
}

/** The fills under way: one per digest, whoever asks, and no more at a time than there are places. */
export class Downloads implements AsyncDisposable {
  readonly #options: DownloadsOptions;
  readonly #fills = new Map<Digest, Download>();
  readonly #places: Places;
  /**
   * For what other replicas are to keep. Places of their own: a fill here that waits for one of theirs must not hold up
   * what they wait for here.
   */
  readonly #passing: Places;
  /** The memory that blobs pass through. */
  readonly slabs: Slabs;

  constructor(options: DownloadsOptions) {
    this.#options = options;
    this.#places = new Places(options.limits);
    this.#passing = new Places(options.limits);
    this.slabs = options.slabs ?? new Slabs();
  }

  /** Fills under way. */
  get count(): number {
    return this.#fills.size;
  }

  /** What is being filled now, for those who watch. */
  progress(): FillProgress[] {
    return [...this.#fills.values()].map(({ fill }) => ({
      digest: fill.digest,
      writtenBytes: fill.partial?.written ?? 0,
      sizeBytes: fill.heading?.size,
      sources: fill.sources.all.map((source) => source.id),
      readers: fill.readers,
    }));
  }

  /** Whether a blob is being filled now. */
  has(digest: Digest): boolean {
    return this.#fills.has(digest);
  }

  /** Whether a blob waits for others to be fetched. */
  isQueued(digest: Digest): boolean {
    const download = this.#fills.get(digest);
    return download !== undefined && this.#placesOf(download).isWaiting(download);
  }

  /**
   * A reader of the fill of a digest, begun now unless it is under way. The right to read is the caller's to check.
   * @returns the fill and a reader that the caller has to dispose
   */
  join(digest: Digest, joiner: Joiner): { fill: Fill; reader: FillReader; begun: boolean } {
    const last = this.#fills.get(digest);
    // One that has failed and is being cleared away has nothing to say to somebody who comes with sources of their own.
    const running = last?.fill.state === 'failed' || last?.hasYielded ? undefined : last?.fill;
    const fill = running ?? this.#create(digest, joiner);
    fill.sources.add(joiner.sources);
    if (joiner.expectedSize !== undefined) fill.expectedSizes.add(joiner.expectedSize);
    const reader = new FillReader(fill, joiner);
    if (!running) this.#begin(fill, last?.running);
    return { fill, reader, begun: running === undefined };
  }

  /**
   * Resolves when a blob is in the store: fills it, or waits for the fill that is under way. The right to read is the
   * caller's to check.
   * @param options.onProgress told, as bytes come, how many are here, and of how many where that is known
   * @throws RegistryError when no source could give it, when it has another size than expected, 507 when the disk did not
   *   take it or the cache has no room for it; the signal's reason
   */
  async bring(digest: Digest, joiner: Omit<Joiner, 'isRanged'>, options: BringOptions): Promise<void> {
    const { signal, onProgress } = options;
    const { fill, reader } = this.join(digest, { ...joiner, isRanged: false });
    // As long as somebody reads, the fill keeps its place.
    await using _ = reader;
    await reader.heading(signal);
    while (fill.state === 'running') {
      onProgress?.(fill.partial?.written ?? 0, fill.heading?.size);
      await fill.progress.wait(signal);
    }
    if (fill.state === 'failed') throw fill.failure(joiner.repository);
    await untilAborted(this.#fills.get(digest)?.running ?? Promise.resolve(), signal);
    if (fill.isStored) return;
    if (fill.isRefused) throw new RegistryError('no-room', 'the cache has no room for this blob');
    if (fill.isKept) {
      throw new RegistryError('disk-fault', 'the disk of this cache could not take a blob');
    }
    // It was begun for a client, and for other replicas to keep.
    throw new RegistryError('kept-elsewhere', 'the blob has been brought for other replicas, and not for this one');
  }

  /** A reader of a fill under way for another replica, which has to dispose it; `undefined` where there is none. */
  follow(digest: Digest): PeerReader | undefined {
    const fill = this.#fills.get(digest)?.fill;
    if (fill === undefined || !fill.isServing || fill.state === 'failed' || fill.state === 'spilled') return undefined;
    return new PeerReader(fill);
  }

  /** Stops all fills, leaving their partial files to be continued. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const { fill } of this.#fills.values()) fill.stop();
    this.#places.close();
    this.#passing.close();
    await Promise.all(this.#fills.values().map(({ running }) => running));
  }

  #create(digest: Digest, { isRanged, isOwned = false, isLocal = false }: Joiner): Fill {
    const { store, observer, onStored, route } = this.#options;
    const sources = new SourceList();
    return new Fill({
      digest,
      store,
      sources,
      route: isLocal ? new DirectRoute(sources) : route(digest, sources, { isOwned }),
      observer,
      slabs: this.slabs,
      inParts: isRanged,
      onStored: (blob) => onStored(digest, { ...blob, isForOthers: isOwned }),
      onUnwanted: () => {
        for (const places of [this.#places, this.#passing]) this.#makeRoom(places);
      },
    });
  }

  #begin(fill: Fill, before: Promise<void> | undefined): void {
    const download: Download = { fill, running: Promise.resolve(), hasYielded: false };
    this.#fills.set(fill.digest, download);
    download.running = this.#run(download, before);
  }

  /** @param before the end of an earlier fill of the same digest: both have the same partial file */
  async #run(download: Download, before: Promise<void> | undefined): Promise<void> {
    const { fill } = download;
    await before;
    const places = this.#placesOf(download);
    const place = places.take(download);
    this.#makeRoom(places);
    if (await place) {
      let hasPlace = true;
      const giveBack = (): void => {
        if (hasPlace) places.giveBack();
        hasPlace = false;
      };
      // What waits for its place on the disk keeps none that another could use.
      await fill.run(giveBack);
      giveBack();
    }
    this.#forget(download);
    // Only now, when nobody can join any more, may the file be closed.
    await fill.release();
  }

  #placesOf({ fill }: Download): Places {
    return fill.isKept ? this.#places : this.#passing;
  }

  /** While others wait for a place, nobody keeps one, or waits for one, for whom nobody is waiting. */
  #makeRoom(places: Places): void {
    if (places.waiting === 0) return;
    for (const download of this.#fills.values()) {
      const { fill } = download;
      if (this.#placesOf(download) !== places) continue;
      if (fill.readers > 0 || fill.state !== 'running' || download.hasYielded) continue;
      if (places.isWaiting(download)) {
        this.#forget(download);
        places.leave(download);
      } else {
        download.hasYielded = true;
        fill.stop();
      }
    }
  }

  #forget(download: Download): void {
    if (this.#fills.get(download.fill.digest) === download) this.#fills.delete(download.fill.digest);
  }
}
