import { statfs } from 'node:fs/promises';
import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises';
import type { Digest } from '../oci/digest.ts';
import type { Catalog } from './catalog.ts';
import type { DiskStore } from './disk-store.ts';
import { type Marks, marksOf } from './eviction-policy.ts';

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
  /** Nothing more could be removed: a DiskFault, or a bug. */
  failed(error: unknown): void;
}

/** The file system that the cache is on, in bytes. */
export interface FileSystem {
  readonly totalBytes: number;
  readonly freeBytes: number;
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

/** Most blobs that are looked at and removed between two turns, unless more have to go together. */
const blobsPerStep = 16;
/** A blob that is to become visible waits no longer than this for its place. */
const maxWaitMs = 1_000;
/** After the disk has failed to remove something. */
const pauseMs = 30_000;
/** What is evicted when the disk was full although enough should have been free: a share of what is stored, at least so much. */
const fullShare = 0.02;
const fullBytes = 64 * 1024 * 1024;

/**
 * Keeps the cache within its budget: one pass at a time, in small steps, behind the requests. What is being read or
 * brought here, what is pinned and what was used last is left alone, the last as long as anything else is left.
 */
export class Evictor implements AsyncDisposable {
  readonly #options: EvictorOptions;
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;
  #isAskedAgain = false;
  #excess: EvictionReason | undefined;
  #owedBytes = 0;
  #pausedUntilMs = 0;

  constructor(options: EvictorOptions) {
    this.#options = options;
  }

  /** Why the cache should be smaller than it can be made: all that is left is pinned or in use, or may not be removed. */
  get excess(): EvictionReason | undefined {
    return this.#excess;
  }

  /** Sees to it that the cache is within its budget, what is on its way included. Never rejects; never takes long. */
  async makeRoom(): Promise<void> {
    if (this.#stop.signal.aborted) return;
    this.#isAskedAgain = true;
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
    const waited = new AbortController();
    const { signal } = waited;
    await Promise.race([this.#running, delay(maxWaitMs, undefined, { signal, ref: false }).catch(() => undefined)]);
    waited.abort();
  }

  /** The disk had no room for a blob: makes some, for the next one. */
  diskWasFull(): void {
    if (this.#owedBytes > 0) return;
    this.#owedBytes = Math.max(fullBytes, this.#options.catalog.usage().bytes * fullShare);
    void this.makeRoom();
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

  /** Evicts until the cache is below its low marks. @throws DiskFault */
  async #pass(): Promise<void> {
    const { observer, offline } = this.#options;
    const startMs = performance.now();
    const total = { blobs: 0, bytes: 0 };
    let lack = await this.#lack('high');
    this.#excess = offline ? lack?.reason : lack && this.#excess;
    if (lack === undefined || offline || performance.now() < this.#pausedUntilMs) return;
    const { reason } = lack;
    try {
      while (lack !== undefined && !this.#stop.signal.aborted) {
        const freed: { blobs: number; bytes: number } = await this.#step(lack);
        total.blobs += freed.blobs;
        total.bytes += freed.bytes;
        this.#owedBytes = freed.bytes === 0 ? 0 : Math.max(0, this.#owedBytes - freed.bytes);
        await nextTurn();
        // Where nothing could be done, what counts is whether it has to be.
        const isDone: boolean = freed.bytes === 0 && freed.blobs === 0;
        lack = await this.#lack(isDone ? 'high' : 'low');
        this.#excess = isDone ? lack?.reason : undefined;
        if (isDone) break;
      }
    } finally {
      if (total.bytes > 0) observer.ended({ reason, ...total, durationMs: performance.now() - startMs });
    }
  }

  /** How many bytes are to go, if any. */
  async #lack(mark: keyof Marks): Promise<{ bytes: number; reason: EvictionReason } | undefined> {
    const { catalog, store, budget, fileSystem } = this.#options;
    const stored = catalog.usage().bytes;
    const target = marksOf(budget.maxSizeBytes)[mark];
    // What is on its way is looked at only where it can matter.
    const partials = stored > target / 2 ? await store.partials() : [];
    const partialBytes = partials.reduce((sum, { bytes }) => sum + bytes, 0);
    // A blob that is larger than the budget drives out only half of the rest before it is there.
    const size = stored + Math.min(partialBytes, budget.maxSizeBytes / 2) - target;
    const free = budget.minFreeBytes === 0 ? 0 : lackOfFree(await fileSystem(), budget.minFreeBytes, mark);
    if (Math.max(size, free, this.#owedBytes) <= 0) return undefined;
    if (size >= free && size >= this.#owedBytes) return { bytes: size, reason: 'size' };
    return free >= this.#owedBytes ? { bytes: free, reason: 'free' } : { bytes: this.#owedBytes, reason: 'full' };
  }

  /** Evicts a few blobs, the coldest first. @throws DiskFault */
  async #step({ bytes: wanted, reason }: { bytes: number; reason: EvictionReason }) {
    const { catalog, store, observer } = this.#options;
    const freed = { blobs: 0, bytes: 0 };
    const left = await this.#dropLeftPartials(wanted);
    if (left > 0) return { ...freed, bytes: left };
    for (const { digest } of this.#victims()) {
      if (freed.bytes >= wanted || freed.blobs >= blobsPerStep || this.#stop.signal.aborted) break;
      const group = catalog.evictions.group(digest);
      if (group.some((member) => store.isInUse(member.digest))) continue;
      for (const member of group) {
        // Somebody may have come for it while others were removed: then it stays, and what it needs with it.
        const isLast = member === group.at(-1) && group.length > 1;
        if (isLast && catalog.evictions.group(member.digest).length > 1) break;
        // The file goes first: a row without a file is a miss, a file without a row would be counted by nobody.
        if (!(await store.evict(member.digest, () => catalog.evictions.forget(member.digest)))) break;
        freed.blobs += 1;
        freed.bytes += member.size;
        observer.evicted(member.digest, { reason, bytes: member.size });
      }
    }
    return freed;
  }

  *#victims() {
    const { catalog, store } = this.#options;
    let looked = 0;
    for (let limit = blobsPerStep; ; limit *= 4) {
      const coldest = catalog.evictions.coldest(limit);
      yield* coldest
        .slice(looked)
        .filter(({ digest }) => !store.isInUse(digest) && !catalog.evictions.isTouched(digest));
      if (coldest.length < limit) return;
      looked = coldest.length;
    }
  }

  /** Unfinished blobs that nobody is fetching any more go before whole ones. @returns bytes */
  async #dropLeftPartials(wanted: number): Promise<number> {
    const { store } = this.#options;
    let freed = 0;
    for (const { digest, bytes, isOpen } of await store.partials()) {
      if (isOpen || freed >= wanted) continue;
      if (await store.dropPartial(digest)) freed += bytes;
    }
    return freed;
  }
}

/** By how much less is free than should be, in bytes; at or below 0 where enough is, or it cannot be told. */
function lackOfFree(found: FileSystem | undefined, minFreeBytes: number, mark: keyof Marks): number {
  if (found === undefined) return 0;
  // Of a file system that is smaller than what should be free, half is the cache's all the same.
  const wanted = Math.min(minFreeBytes, found.totalBytes / 2);
  const margin = mark === 'low' ? Math.min(wanted / 20, 1024 * 1024 * 1024) : 0;
  return wanted + margin - found.freeBytes;
}

/** The file system of a folder. */
export async function fileSystemOf(dir: string): Promise<FileSystem | undefined> {
  const found = await statfs(dir).catch(() => undefined);
  return found && { totalBytes: found.blocks * found.bsize, freeBytes: found.bavail * found.bsize };
}
