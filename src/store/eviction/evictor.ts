import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Digest } from '../../oci/digest.ts';
import type { Catalog } from '../catalog/catalog.ts';
import { lackOfFree, type Marks, marksOf } from '../eviction-policy.ts';
import type { DiskStore } from '../files/disk-store.ts';
import type { FileSystem } from '../files/file-system.ts';
import { Room } from './room.ts';
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

/** The events of an evictor, for the log and the metrics. */
export type EvictionEvent =
  | {
      /** A blob or manifest is gone. */
      readonly kind: 'evicted';
      readonly digest: Digest;
      readonly reason: EvictionReason;
      readonly bytes: number;
      /** Of a manifest: the repositories that had it, as the cache names them. */
      readonly repositories: readonly string[];
    }
  /** As much has been evicted as necessary, or as possible. */
  | ({ readonly kind: 'ended' } & Eviction)
  /** Something could not be removed: a DiskFault, a catalog that cannot be written, or a bug. */
  | { readonly kind: 'failed'; readonly error: unknown };

export interface EvictorOptions {
  /** Looks at the file system of the cache; `undefined` where that cannot be told. */
  readonly fileSystem: () => Promise<FileSystem | undefined>;
  readonly store: DiskStore;
  readonly catalog: Catalog;
  /** Read each time, as it may be changed while the mirror runs. Bytes. */
  readonly budget: { readonly maxSizeBytes: number; readonly minFreeBytes: number };
  /** Nothing can be fetched again: nothing is evicted. */
  readonly offline: boolean;
  readonly report: (event: EvictionEvent) => void;
}

/** The result of a step. */
interface Freed {
  readonly blobs: number;
  readonly bytes: number;
  /** How many could not be removed. */
  readonly failures: number;
}

/** Between two looks in the background, in milliseconds. */
const lookEveryMs = 50;
/** How long a file that could not be removed is skipped, and eviction pauses if nothing could be. */
const pauseMs = 30_000;
/** After so many failures without a success, the disk or the catalog is to blame, not one file. */
const mostFailures = 16;
/** How long a file system is given to show what was freed in it: some do so only when they next write their tables. */
const freeShowsAfterMs = 30_000;
/** When the disk was full although enough should have been free, this share of the stored bytes is evicted, and at least so many. */
const fullShare = 0.02;
const fullBytes = 64 * 1024 * 1024;

/**
 * Keeps the cache within its budget: one pass at a time, in small steps, in the background. Blobs that are being read or
 * filled and pinned ones stay; the most recently used stay as long as anything else is left.
 */
export class Evictor implements AsyncDisposable {
  /** Gives out the room that there is. */
  readonly room: Room;
  readonly #options: EvictorOptions;
  readonly #victims: Victims;
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;
  #isAskedAgain = false;
  #excess: EvictionReason | undefined;
  #owedBytes = 0;
  #pausedUntilMs = 0;
  #awaitsFreeUntilMs = 0;
  #looking: NodeJS.Timeout | undefined;
  #lookedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: EvictorOptions) {
    this.#options = options;
    const { catalog, store, budget, offline } = options;
    this.room = new Room({
      catalog,
      budget,
      offline,
      isInUse: (digest) => store.isInUse(digest),
      makeRoom: () => this.makeRoom(),
      look: () => this.look(),
    });
    const holds = (digest: Digest): boolean => this.room.arrivals.holds(digest);
    this.#victims = new Victims({ catalog, store, holds, pauseMs });
  }

  /** Why the cache exceeds a limit although nothing more can be evicted: all that is left is pinned, in use, or cannot be removed. */
  get excess(): EvictionReason | undefined {
    return this.#excess;
  }

  /** Evicts until the cache is within its budget, including what is on its way. Never rejects. */
  async makeRoom(): Promise<void> {
    if (this.#stop.signal.aborted) return;
    this.#isAskedAgain = true;
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
    await this.#running;
  }

  /** As {@link makeRoom}, without a wait, and at most every so often: small blobs would ask for it a thousand times a second. */
  look(): void {
    if (this.#looking !== undefined) return;
    const waitMs = this.#lookedAtMs + lookEveryMs - performance.now();
    if (waitMs > 0) this.#looking = setTimeout(() => this.#look(), waitMs).unref();
    else this.#look();
  }

  #look(): void {
    this.#looking = undefined;
    this.#lookedAtMs = performance.now();
    void this.makeRoom();
  }

  /** The disk was full and did not take a blob: makes room for the next one. */
  diskWasFull(): void {
    if (this.#owedBytes > 0) return;
    this.#owedBytes = Math.max(fullBytes, this.#options.catalog.blobs.usage().bytes * fullShare);
    this.look();
  }

  /** Ends the current pass after its current step. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    clearTimeout(this.#looking);
    await this.#running;
  }

  async #run(): Promise<void> {
    while (this.#isAskedAgain && !this.#stop.signal.aborted) {
      this.#isAskedAgain = false;
      try {
        await this.#pass();
      } catch (error) {
        this.#pausedUntilMs = performance.now() + pauseMs;
        this.#options.report({ kind: 'failed', error });
      }
    }
  }

  /** Evicts until the cache is below its low marks; what cannot be removed is passed over. */
  async #pass(): Promise<void> {
    const { report, offline } = this.#options;
    const startMs = performance.now();
    const found = await this.#fileSystem();
    const { arrivals } = this.room;
    arrivals.forgetQuiet();
    arrivals.settle();
    const awaitsFree = startMs < this.#awaitsFreeUntilMs && this.#lackOfFree(found) > 0;
    if (!awaitsFree) this.#awaitsFreeUntilMs = 0;
    const disk = { found: awaitsFree ? undefined : found, gone: 0 };
    let lack = await this.#lack('high', disk);
    if (offline) this.#excess = lack?.reason;
    else if (lack === undefined && !awaitsFree) this.#excess = undefined;
    if (lack === undefined || offline || performance.now() < this.#pausedUntilMs) return;
    const { reason } = lack;
    // New pins are marked before anything is evicted.
    while (!this.#stop.signal.aborted && this.#options.catalog.pins.renew()) await nextTurn();
    let [blobs, bytes, failures] = [0, 0, 0];
    // Unfinished blobs that are no longer being fetched go before whole ones.
    disk.gone = await this.#dropLeftPartials(lack.bytes);
    if (disk.gone > 0) lack = await this.#lack('low', disk);
    try {
      while (lack !== undefined && !this.#stop.signal.aborted) {
        const freed: Freed = await this.#step(lack);
        blobs += freed.blobs;
        bytes += freed.bytes;
        disk.gone += freed.bytes;
        if (freed.blobs > 0) this.room.freed();
        failures = freed.blobs === 0 ? failures + freed.failures : 0;
        if (failures >= mostFailures) this.#pausedUntilMs = performance.now() + pauseMs;
        const isOver = freed.blobs === 0 && (freed.failures === 0 || failures >= mostFailures);
        this.#owedBytes = isOver ? 0 : Math.max(0, this.#owedBytes - freed.bytes);
        await nextTurn();
        // Where nothing could be done, what counts is whether it has to be.
        lack = await this.#lack(isOver ? 'high' : 'low', disk);
        this.#excess = isOver ? lack?.reason : undefined;
        // Images that wait for room hold their stored blobs, which does not help if nothing else is left.
        if (isOver && !(lack !== undefined && freed.failures === 0 && arrivals.refuseLast())) break;
      }
    } finally {
      if (blobs > 0) report({ kind: 'ended', reason, blobs, bytes, durationMs: performance.now() - startMs });
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
    // Blobs on their way are counted only where they can matter.
    const isNear = catalog.blobs.usage().bytes > target / 2;
    const partials = isNear ? await store.partials() : [];
    // Nothing is evicted for blobs without a reservation: only a manifest vouches for the size of a blob on its way.
    const reserved = partials.filter(
      // One that has become visible meanwhile is counted already.
      ({ digest }) => this.room.arrivals.stateOf(digest) === 'admitted' && !catalog.blobs.has(digest),
    );
    const onItsWay = Math.max(
      this.room.claimedBytes,
      reserved.reduce((sum, { bytes }) => sum + bytes, 0),
    );
    const size = catalog.blobs.usage().bytes + onItsWay - target;
    const free = lackOfFree(disk.found, budget.minFreeBytes, mark) - disk.gone;
    if (Math.max(size, free, this.#owedBytes) <= 0) return undefined;
    if (size >= free && size >= this.#owedBytes) return { bytes: size, reason: 'size' };
    return free >= this.#owedBytes ? { bytes: free, reason: 'free' } : { bytes: this.#owedBytes, reason: 'full' };
  }

  /** Evicts a few blobs, the coldest first. */
  async #step({ bytes: wanted, reason }: { bytes: number; reason: EvictionReason }): Promise<Freed> {
    const { report } = this.#options;
    const freed = { blobs: 0, bytes: 0, failures: 0 };
    const removals = this.#victims.next(wanted).map(async (chain) => {
      for await (const { digest, size, repositories } of this.#victims.remove(chain, this.#stop.signal)) {
        freed.blobs += 1;
        freed.bytes += size;
        report({ kind: 'evicted', digest, reason, bytes: size, repositories });
      }
    });
    for (const removal of await Promise.allSettled(removals)) {
      if (removal.status === 'fulfilled') continue;
      freed.failures += 1;
      report({ kind: 'failed', error: removal.reason });
    }
    return freed;
  }

  /** @returns bytes */
  async #dropLeftPartials(wanted: number): Promise<number> {
    const { store, report } = this.#options;
    let freed = 0;
    for (const { digest, bytes, isOpen } of await store.partials()) {
      if (isOpen || freed >= wanted || this.#victims.isLeftAlone(digest)) continue;
      try {
        if (await store.dropPartial(digest)) freed += bytes;
      } catch (error) {
        this.#victims.leaveAlone(digest);
        report({ kind: 'failed', error });
      }
    }
    return freed;
  }
}
