import type { Digest } from '../../oci/digest.ts';
import type { Catalog } from '../catalog/catalog.ts';
import type { Evictable } from '../catalog/eviction-records.ts';
import { DiskFault } from '../files/blob-store.ts';
import type { DiskStore } from '../files/disk-store.ts';

/** An evicted blob. */
export interface Evicted extends Evictable {
  /** Of a manifest: the repositories that had it, as the cache names them. */
  readonly repositories: readonly string[];
}

/** A blob that is to be evicted, in a chain that is in the order of removal. */
export interface Victim extends Evictable {
  /** Its attachments must be removed before it. */
  readonly isLastOfGroup: boolean;
  /** It is evicted because no image needs it any more, and stays if one needs it again. */
  readonly isLeft: boolean;
}

/** The most blobs that are evicted between two turns of the event loop, unless more have to be evicted together. */
const blobsPerStep = 16;

interface VictimsOptions {
  readonly catalog: Catalog;
  readonly store: DiskStore;
  /** Whether a blob is part of an image that is on its way, or worked on. */
  readonly holds: (digest: Digest) => boolean;
  /** How long what could not be removed is left alone, in milliseconds. */
  readonly pauseMs: number;
}

/** Chooses and removes what is evicted next: no blob that is or was just in use, and for a while none that could not be removed. */
export class Victims {
  readonly #options: VictimsOptions;
  /** Blobs that could not be removed and would otherwise be the coldest again. */
  readonly #stuck = new Set<Digest>();
  #stuckUntilMs = 0;

  constructor(options: VictimsOptions) {
    this.#options = options;
  }

  /** Passes over a blob that could not be removed. */
  leaveAlone(digest: Digest): void {
    if (this.#stuck.size === 0) this.#stuckUntilMs = performance.now() + this.#options.pauseMs;
    this.#stuck.add(digest);
  }

  /** Whether a blob is being passed over. */
  isLeftAlone(digest: Digest): boolean {
    if (performance.now() >= this.#stuckUntilMs) this.#stuck.clear();
    return this.#stuck.has(digest);
  }

  /**
   * A few of the coldest: chains that have nothing to do with each other, each in the order of removal.
   * @param wanted bytes
   */
  next(wanted: number): readonly (readonly Victim[])[] {
    const { catalog } = this.#options;
    // Where all was used just now, some of it may go all the same.
    catalog.uses.flush();
    const chains = new Set<Victim[]>();
    const chainOf = new Map<Digest, Victim[]>();
    let bytes = 0;
    for (const { digest } of this.#coldest()) {
      if (bytes >= wanted || chainOf.size >= blobsPerStep) break;
      if (chainOf.has(digest)) continue;
      const group = catalog.evictions.group(digest);
      if (group.some((member) => this.#stays(member.digest))) continue;
      const before = new Set(group.map((member) => chainOf.get(member.digest)).filter((one) => one !== undefined));
      const [chain = []] = before;
      // It comes after several that are still to go: the next step takes it.
      if (before.size > 1) break;
      const last = group.length > 1 ? group.at(-1) : undefined;
      const left = catalog.evictions.left(group);
      for (const member of [...group, ...left].filter((one) => !chainOf.has(one.digest))) {
        chain.push({ ...member, isLastOfGroup: member === last, isLeft: left.includes(member) });
        chainOf.set(member.digest, chain);
        bytes += member.size;
      }
      if (chain.length > 0) chains.add(chain);
    }
    return [...chains];
  }

  *#coldest() {
    const { catalog } = this.#options;
    let looked = 0;
    for (let limit = blobsPerStep; ; limit *= 4) {
      const coldest = catalog.evictions.coldest(limit);
      yield* coldest.slice(looked).filter(({ digest }) => !this.#stays(digest));
      if (coldest.length < limit) return;
      looked = coldest.length;
    }
  }

  /**
   * Removes the blobs of a chain one after the other. Yields each that is gone.
   * @throws DiskFault; Error where the catalog cannot be written
   */
  async *remove(chain: readonly Victim[], signal: AbortSignal): AsyncGenerator<Evicted> {
    const { catalog } = this.#options;
    const unforgotten = new Map<Digest, Evicted>();
    for (const { isLastOfGroup, isLeft, ...evictable } of chain) {
      if (signal.aborted) break;
      const { digest: own } = evictable;
      const blob = { ...evictable, repositories: catalog.manifests.has(own) ? catalog.grants.readers(own) : [] };
      if (isLeft && unforgotten.size === 0 && !catalog.evictions.isUnneeded(blob.digest)) continue;
      // A client may have requested it while others were removed: then it stays, with everything it needs.
      const group = isLastOfGroup ? catalog.evictions.group(blob.digest) : [];
      if (group.some(({ digest }) => digest !== blob.digest && !unforgotten.has(digest))) break;
      try {
        if (!(await this.#evict(blob.digest))) {
          if (isLeft) continue;
          break;
        }
        yield blob;
      } catch (error) {
        if (error instanceof DiskFault) throw error;
        unforgotten.set(blob.digest, blob);
      }
    }
    // On a disk that was full, the catalog can be written now that the files are gone.
    for (const blob of unforgotten.values()) if (await this.#evict(blob.digest)) yield blob;
  }

  /** @returns whether it is gone @throws DiskFault; Error where the catalog cannot be written: only the file is gone */
  async #evict(digest: Digest): Promise<boolean> {
    const { catalog, store, holds } = this.#options;
    if (holds(digest)) return false;
    try {
      // The file is removed first: a row without a file is a miss, but a file without a row would not be counted.
      return await store.evict(digest, () => catalog.evictions.forget(digest));
    } catch (error) {
      this.leaveAlone(digest);
      throw error;
    }
  }

  #stays(digest: Digest): boolean {
    const { catalog, store, holds } = this.#options;
    return this.isLeftAlone(digest) || store.isInUse(digest) || catalog.evictions.isTouched(digest) || holds(digest);
  }
}
