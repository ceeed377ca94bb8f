import { Slabs } from '../../memory/slabs.ts';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/error.ts';
import type { Report } from '../../oci/report.ts';
import type { NewBlob } from '../../store/catalog/blob-records.ts';
import type { BlobStore } from '../../store/files/blob-store.ts';
import type { Repository } from '../../upstream/repository.ts';
import { Places } from '../../waiting/places.ts';
import { untilAborted } from '../../waiting/until-aborted.ts';
import { Fill } from './fill.ts';
import type { FillEvent } from './fill-events.ts';
import { FillReader } from './fill-reader.ts';
import { type Placed, RateWatch } from './rate-watch.ts';
import { DirectRoute, type Joiner, type Route, SourceList, upstreamSources } from './sources.ts';

export interface FillsOptions {
  readonly store: BlobStore;
  readonly report: Report<FillEvent>;
  /** Says where a fill reads from; absent: from its sources, in their order. */
  readonly route?:
    | ((digest: Digest, sources: SourceList, options: { repository: Repository; isOwned: boolean }) => Route)
    | undefined;
  /** `maxFills`: how many blobs may be fetched at a time; read each time, as it may be changed while the mirror runs. */
  readonly limits: { readonly maxFills: number; readonly maxBlobBytes: number };
  /** Called when a fill begins: until it ends, requests for the blob join it. */
  readonly onBegun?: ((digest: Digest) => void) | undefined;
  /** Called when a blob has become visible in the store. */
  readonly onStored: (digest: Digest, blob: NewBlob) => void;
  /** Whether the partial file of a blob from an earlier run can only have come from this upstream. */
  readonly isLeftoverOf: (digest: Digest, upstream: string) => boolean;
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

/** Its group is the upstream. */
interface Entry extends Placed {
  readonly key: string;
  running: Promise<void>;
  /** Whether it has the partial file that outlives the process: one fill of a digest at a time. */
  hasPartial: boolean;
  /** It was stopped for the sake of others: the next request begins it again. */
  hasYielded: boolean;
}

/**
 * The fills under way: one per digest and upstream, and no more at a time than there are places. What one upstream gives
 * is not evidence of what another one has, and a slow or wrong one must not hold up the clients of another.
 */
export class Fills implements AsyncDisposable {
  readonly #options: FillsOptions;
  readonly #fills = new Map<string, Entry>();
  /** Digests whose partial file that outlives the process is in use. */
  readonly #partials = new Set<Digest>();
  readonly #places: Places;
  /**
   * For what other replicas are to keep. Places of their own: a fill here that waits for one of theirs must not hold up
   * what they wait for here.
   */
  readonly #passing: Places;
  readonly #rates = new RateWatch();
  /** The memory that blobs pass through. */
  readonly slabs: Slabs;

  constructor(options: FillsOptions) {
    this.#options = options;
    this.#places = new Places(options.limits);
    this.#passing = new Places(options.limits);
    this.slabs = options.slabs ?? new Slabs();
  }

  /** Fills under way. */
  get count(): number {
    return this.#fills.size;
  }

  /** The progress of all fills. */
  progress(): FillProgress[] {
    return [...this.#fills.values()].map(({ fill }) => ({
      digest: fill.digest,
      writtenBytes: fill.partial?.written ?? 0,
      sizeBytes: fill.heading?.size,
      sources: fill.sources.all.map((source) => source.id),
      readers: fill.readers,
    }));
  }

  /** Whether a blob is being filled now. @param upstream from this one; absent: from any */
  has(digest: Digest, upstream?: string): boolean {
    if (upstream !== undefined) return this.#fills.has(keyOf(digest, upstream));
    return this.#fills.values().some(({ fill }) => fill.digest === digest);
  }

  /** Whether a fill waits for other blobs to be fetched. */
  isQueued(fill: Fill): boolean {
    const entry = this.#fills.values().find((each) => each.fill === fill);
    return entry !== undefined && this.#placesOf(entry).isWaiting(entry);
  }

  /** Starts a fill that waits for other blobs, since its client can wait no longer; does nothing if too many have been. */
  startAnyway(fill: Fill): void {
    const entry = this.#fills.values().find((each) => each.fill === fill);
    if (entry) this.#placesOf(entry).giveAnyway(entry);
  }

  /**
   * A reader of the fill of a digest, begun now unless it is under way. The right to read is the caller's to check.
   * @returns the fill and a reader that the caller has to dispose
   */
  join(digest: Digest, joiner: Joiner): { fill: Fill; reader: FillReader; begun: boolean } {
    const { upstream } = joiner.repository;
    const common = keyOf(digest, upstream.name);
    // A size from a manifest counts for more than a source's: a joiner that knows another size does not share the fill.
    const key = contradicts(this.#fills.get(common)?.fill, joiner) ? `${common} ${joiner.expectedSize}` : common;
    const last = this.#fills.get(key);
    // A failed fill that is being removed does not serve a joiner that brings its own sources.
    const isOver = last?.fill.state === 'failed' || last?.fill.isVoid || last?.hasYielded;
    const running = isOver ? undefined : last?.fill;
    const fill = running ?? this.#create(digest, joiner);
    fill.sources.add(joiner.sources ?? upstreamSources(joiner.repository));
    if (joiner.expectedSize !== undefined) fill.expectedSizes.add(joiner.expectedSize);
    const reader = new FillReader(fill, { ...joiner, repository: joiner.repository.key });
    if (!running) this.#begin(fill, { key, group: upstream.name, before: last?.running });
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
    // As long as there is a reader, the fill keeps its place.
    await using _ = reader;
    await reader.heading(signal);
    while (fill.state === 'running') {
      onProgress?.(fill.partial?.written ?? 0, fill.heading?.size);
      await fill.progress.wait(signal);
    }
    if (fill.state === 'failed') throw fill.failure(joiner.repository.key);
    const entry = this.#fills.values().find((each) => each.fill === fill);
    await untilAborted(entry?.running ?? Promise.resolve(), signal);
    if (fill.isStored) return;
    if (fill.isRefused) throw new RegistryError('no-room', 'the cache has no room for this blob');
    if (fill.isKept) {
      throw new RegistryError('disk-fault', 'the disk of this cache could not take a blob');
    }
    // It was begun for a client, and for other replicas to keep.
    throw new RegistryError('kept-elsewhere', 'the blob has been brought for other replicas, and not for this one');
  }

  /** The fill of a digest from an upstream that other replicas may follow; `undefined` where there is none. */
  following(digest: Digest, upstream: string): Fill | undefined {
    const fill = this.#fills.get(keyOf(digest, upstream))?.fill;
    if (fill === undefined || !fill.isServing || fill.state === 'failed' || fill.state === 'spilled') return undefined;
    return fill;
  }

  /** Stops all fills, leaving their partial files to be continued. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#rates[Symbol.dispose]();
    for (const { fill } of this.#fills.values()) fill.stop();
    this.#places.close();
    this.#passing.close();
    await Promise.all(this.#fills.values().map(({ running }) => running));
  }

  #create(digest: Digest, { repository, isRanged, isOwned = false, isLocal = false }: Joiner): Fill {
    const { store, report, onStored, route, isLeftoverOf } = this.#options;
    const upstream = repository.upstream.name;
    const sources = new SourceList(this.#options.limits.maxBlobBytes);
    return new Fill({
      digest,
      store,
      sources,
      route: (!isLocal && route?.(digest, sources, { repository, isOwned })) || new DirectRoute(sources),
      report,
      slabs: this.slabs,
      inParts: isRanged,
      onStored: (blob) => onStored(digest, { ...blob, isForOthers: isOwned, shownBy: upstream }),
      isLeftoverOurs: () => isLeftoverOf(digest, upstream),
      onUnwanted: () => {
        for (const places of [this.#places, this.#passing]) this.#makeRoom(places);
      },
    });
  }

  #begin(fill: Fill, { key, group, before }: { key: string; group: string; before: Promise<void> | undefined }): void {
    const state = { running: Promise.resolve(), place: 'none', hasPartial: false, hasYielded: false } as const;
    const entry: Entry = { key, group, fill, ...state };
    this.#fills.set(key, entry);
    this.#options.onBegun?.(fill.digest);
    entry.running = this.#run(entry, before);
  }

  /** @param before the end of an earlier fill of the same digest: both have the same partial file */
  async #run(entry: Entry, before: Promise<void> | undefined): Promise<void> {
    const { fill } = entry;
    await before;
    const places = this.#placesOf(entry);
    const place = places.take(entry);
    this.#makeRoom(places);
    if (await place) {
      entry.hasPartial = !this.#partials.has(fill.digest);
      if (entry.hasPartial) this.#partials.add(fill.digest);
      entry.place = 'taken';
      const giveBack = (after: 'none' | 'slow'): void => {
        if (entry.place === 'taken') places.giveBack(entry);
        entry.place = after;
      };
      using _ = this.#rates.watch(entry, () => giveBack('slow'));
      // A fill that waits for the disk keeps no place that another could use.
      await fill.run({ isApart: !entry.hasPartial, onReceived: () => giveBack('none') });
      giveBack('none');
    }
    this.#forget(entry);
    // Only now, when no reader can join any more, may the file be closed.
    await fill.release();
    if (entry.hasPartial) this.#partials.delete(fill.digest);
  }

  #placesOf({ fill }: Entry): Places {
    return fill.isKept ? this.#places : this.#passing;
  }

  /** While fills wait for a place, a fill without readers keeps none, and does not wait for one. */
  #makeRoom(places: Places): void {
    if (places.waiting === 0) return;
    for (const entry of this.#fills.values()) {
      const { fill } = entry;
      if (this.#placesOf(entry) !== places) continue;
      if (fill.readers > 0 || fill.state !== 'running' || entry.hasYielded) continue;
      if (places.isWaiting(entry)) {
        this.#forget(entry);
        places.leave(entry);
      } else {
        entry.hasYielded = true;
        fill.stop();
      }
    }
  }

  #forget(entry: Entry): void {
    if (this.#fills.get(entry.key) === entry) this.#fills.delete(entry.key);
  }
}

/** Whether the manifest of a joiner gives the blob another size than the source that is being read. */
function contradicts(fill: Fill | undefined, { expectedSize }: Joiner): boolean {
  const size = fill?.state === 'running' ? fill.heading?.size : undefined;
  return size !== undefined && expectedSize !== undefined && size !== expectedSize;
}

function keyOf(digest: Digest, upstream: string): string {
  return `${digest} ${upstream}`;
}
