import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises';
import type { Digest } from '../../oci/digest.ts';
import type { Catalog } from '../catalog/catalog.ts';
import { lackOfFree, type Marks, marksOf } from '../eviction-policy.ts';
import type { Space } from '../files/blob-store.ts';
import type { DiskStore } from '../files/disk-store.ts';
import type { FileSystem } from '../files/file-system.ts';
import { Victims } from './victims.ts';

/** Why something is evicted: the cache's own budget, the free space of its file system, or that this has run out. */
export type EvictionReason = 'size' | 'free' | 'full';

/** A pass over the cache that has evicted something. */
export interface Eviction {
  readonly reason: EvictionReason;
  readonly blobs: number;
  readonly bytes: number;
  readonly durationMs: number;
}

/** Told of what is evicted. */
export interface EvictionObserver {
  /** A blob is not here any more. */
  evicted(digest: Digest, event: { readonly reason: EvictionReason; readonly bytes: number }): void;
  /** As much is gone as had to go, or could. */
  ended(eviction: Eviction): void;
  /** Something could not be removed: a DiskFault, a catalog that cannot be written, or a bug. */
  failed(error: unknown): void;
}

export interface EvictorOptions {
  /** Looks at the file system of the cache; `undefined` where that cannot be told. */
  readonly fileSystem: () => Promise<FileSystem | undefined>;
  readonly store: DiskStore;
  readonly catalog: Catalog;
  /** Read each time, as it may be changed while the mirror runs. Bytes. */
  readonly budget: { readonly maxSizeBytes: number; readonly minFreeBytes: number };
  /** Nothing can be fetched again: nothing is evicted. */
  readonly offline: boolean;
  readonly observer: EvictionObserver;
}

/** What a step has come to. */
interface Freed {
  readonly blobs: number;
  readonly bytes: number;
  /** How many could not be removed. */
  readonly failures: number;
}

/** A blob that is to become visible waits no longer than this for its place; nobody waits for it, but it keeps a place of a fill. */
const maxWaitMs = 30_000;
/** How long what could not be removed is left alone, and everything where nothing could be. */
const pauseMs = 30_000;
/** So many that could not be removed, and none that could: the disk or the catalog is to blame, not one file. */
const mostInVain = 16;
/** How long a file system is given to show what was freed in it: some do so only when they next write their tables. */
const freeShowsAfterMs = 30_000;
/** What is evicted when the disk was full although enough should have been free: a share of what is stored, at least so much. */
const fullShare = 0.02;
const fullBytes = 64 * 1024 * 1024;

/**
 * Keeps the cache within its budget: one pass at a time, in small steps, behind the requests. What is being read or
 * brought here, what is pinned and what was used last is left alone, the last as long as anything else is left.
 */
export class Evictor implements Space, AsyncDisposable {
  readonly #options: EvictorOptions;
  readonly #victims: Victims;
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;
  #isAskedAgain = false;
  /** The last of those who wait for room, one after the other. */
  #claims: Promise<void> = Promise.resolve();
  /** Of blobs that may become visible and are not counted yet. */
  #claimedBytes = 0;
  /** Of the blob whose turn it is to wait. */
  #wantedBytes = 0;
  #excess: EvictionReason | undefined;
  #owedBytes = 0;
  #pausedUntilMs = 0;
  #awaitsFreeUntilMs = 0;

  constructor(options: EvictorOptions) {
    this.#options = options;
    this.#victims = new Victims({ catalog: options.catalog, store: options.store, pauseMs });
  }

  /** Why the cache should be smaller than it can be made: all that is left is pinned or in use, or may not be removed. */
  get excess(): EvictionReason | undefined {
    return this.#excess;
  }

  /** Sees to it that the cache is within its budget, what is on its way included. Never rejects. */
  async makeRoom(): Promise<void> {
    if (this.#stop.signal.aborted) return;
    this.#isAskedAgain = true;
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
    await this.#running;
  }

  /** As {@link makeRoom}, for those who do not wait. */
  look(): void {
    void this.makeRoom();
  }

  async claim(bytes: number): Promise<() => void> {
    if (!this.#fits(bytes)) {
      // One after the other: what is granted to the one is not there for the next.
      const turn = this.#claims.then(() => this.#wait(bytes));
      this.#claims = turn;
      await turn;
    }
    this.#claimedBytes += bytes;
    return () => setImmediate(() => (this.#claimedBytes -= bytes));
  }

  #fits(bytes: number): boolean {
    const { catalog, budget } = this.#options;
    return catalog.blobs.usage().bytes + this.#claimedBytes + bytes <= marksOf(budget.maxSizeBytes).high;
  }

  async #wait(bytes: number): Promise<void> {
    this.#wantedBytes = bytes;
    const waited = new AbortController();
    const { signal } = waited;
    try {
      if (!this.#fits(bytes)) {
        await Promise.race([
          this.makeRoom(),
          delay(maxWaitMs, undefined, { signal, ref: false }).catch(() => undefined),
        ]);
      }
    } finally {
      waited.abort();
      this.#wantedBytes = 0;
    }
  }

  /** The disk had no room for a blob: makes some, for the next one. */
  diskWasFull(): void {
    if (this.#owedBytes > 0) return;
    this.#owedBytes = Math.max(fullBytes, this.#options.catalog.blobs.usage().bytes * fullShare);
    this.look();
  }

  /** Ends what is under way after the step it is at. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    while (this.#isAskedAgain && !this.#stop.signal.aborted) {
      this.#isAskedAgain = false;
      try {
        await this.#pass();
      } catch (error) {
        this.#pausedUntilMs = performance.now() + pauseMs;
        this.#options.observer.failed(error);
      }
    }
  }

  /** Evicts until the cache is below its low marks; what cannot be removed is passed over. */
  async #pass(): Promise<void> {
    const { observer, offline } = this.#options;
    const startMs = performance.now();
    const found = await this.#fileSystem();
    const awaitsFree = startMs < this.#awaitsFreeUntilMs && this.#lackOfFree(found) > 0;
    if (!awaitsFree) this.#awaitsFreeUntilMs = 0;
    const disk = { found: awaitsFree ? undefined : found, gone: 0 };
    let lack = await this.#lack('high', disk);
    if (offline) this.#excess = lack?.reason;
    else if (lack === undefined && !awaitsFree) this.#excess = undefined;
    if (lack === undefined || offline || performance.now() < this.#pausedUntilMs) return;
    const { reason } = lack;
    // What has come to be pinned is marked before anything goes.
    while (!this.#stop.signal.aborted && this.#options.catalog.pins.renew()) await nextTurn();
    let [blobs, bytes, inVain] = [0, 0, 0];
    // Unfinished blobs that nobody is fetching any more go before whole ones.
    disk.gone = await this.#dropLeftPartials(lack.bytes);
    if (disk.gone > 0) lack = await this.#lack('low', disk);
    try {
      while ((lack !== undefined || this.#victims.hasLeftovers) && !this.#stop.signal.aborted) {
        const freed: Freed = await this.#step(lack ?? { bytes: 0, reason });
        blobs += freed.blobs;
        bytes += freed.bytes;
        disk.gone += freed.bytes;
        inVain = freed.blobs === 0 ? inVain + freed.failures : 0;
        if (inVain >= mostInVain) this.#pausedUntilMs = performance.now() + pauseMs;
        const isOver = freed.blobs === 0 && (freed.failures === 0 || inVain >= mostInVain);
        this.#owedBytes = isOver ? 0 : Math.max(0, this.#owedBytes - freed.bytes);
        await nextTurn();
        // Where nothing could be done, what counts is whether it has to be.
        lack = await this.#lack(isOver ? 'high' : 'low', disk);
        this.#excess = isOver ? lack?.reason : undefined;
        if (isOver) break;
      }
    } finally {
      if (blobs > 0) observer.ended({ reason, blobs, bytes, durationMs: performance.now() - startMs });
    }
    if (disk.gone > 0 && this.#lackOfFree(await this.#fileSystem()) > 0)
      this.#awaitsFreeUntilMs = performance.now() + freeShowsAfterMs;
  }

  async #fileSystem(): Promise<FileSystem | undefined> {
    const { budget, fileSystem } = this.#options;
    return budget.minFreeBytes === 0 ? undefined : await fileSystem();
  }

  #lackOfFree(found: FileSystem | undefined): number {
    return lackOfFree(found, this.#options.budget.minFreeBytes, 'high');
  }

  /**
   * How many bytes are to go, if any.
   * @param disk `found`: what the file system has said, `undefined`: it does not count; `gone`: bytes removed since. It may
   *   show them only later: asked again, it would have other blobs removed for the same bytes
   */
  async #lack(
    mark: keyof Marks,
    disk: { readonly found: FileSystem | undefined; readonly gone: number },
  ): Promise<{ bytes: number; reason: EvictionReason } | undefined> {
    const { catalog, store, budget } = this.#options;
    const target = marksOf(budget.maxSizeBytes)[mark];
    // What is on its way is looked at only where it can matter.
    const isNear = catalog.blobs.usage().bytes > target / 2;
    const partials = isNear ? await store.partials() : [];
    const partialBytes = partials.reduce((sum, { bytes }) => sum + bytes, 0);
    const claimed = this.#claimedBytes + this.#wantedBytes;
    // What may never come to its end drives out at most half of the rest before it is there.
    const onItsWay = Math.max(claimed, Math.min(partialBytes, budget.maxSizeBytes / 2));
    const size = catalog.blobs.usage().bytes + onItsWay - target;
    const free = lackOfFree(disk.found, budget.minFreeBytes, mark) - disk.gone;
    if (Math.max(size, free, this.#owedBytes) <= 0) return undefined;
    if (size >= free && size >= this.#owedBytes) return { bytes: size, reason: 'size' };
    return free >= this.#owedBytes ? { bytes: free, reason: 'free' } : { bytes: this.#owedBytes, reason: 'full' };
  }

  /** Evicts a few blobs, the coldest first. */
  async #step({ bytes: wanted, reason }: { bytes: number; reason: EvictionReason }): Promise<Freed> {
    const { observer } = this.#options;
    const freed = { blobs: 0, bytes: 0, failures: 0 };
    const removals = this.#victims.next(wanted).map(async (chain) => {
      for await (const { digest, size } of this.#victims.remove(chain, this.#stop.signal)) {
        freed.blobs += 1;
        freed.bytes += size;
        observer.evicted(digest, { reason, bytes: size });
      }
    });
    for (const removal of await Promise.allSettled(removals)) {
      if (removal.status === 'fulfilled') continue;
      freed.failures += 1;
      observer.failed(removal.reason);
    }
    return freed;
  }

  /** @returns bytes */
  async #dropLeftPartials(wanted: number): Promise<number> {
    const { store, observer } = this.#options;
    let freed = 0;
    for (const { digest, bytes, isOpen } of await store.partials()) {
      if (isOpen || freed >= wanted || this.#victims.isLeftAlone(digest)) continue;
      try {
        if (await store.dropPartial(digest)) freed += bytes;
      } catch (error) {
        this.#victims.leaveAlone(digest);
        observer.failed(error);
      }
    }
    return freed;
  }
}
