import type { Config } from '../config/config.ts';
import type { MillpondEvent } from '../events/event.ts';
import type { HoldStore } from '../holds/hold-store.ts';
import type { MemoryBudget } from '../memory/memory-budget.ts';
import type { Slabs } from '../memory/slabs.ts';
import type { Changes } from '../oci/facts.ts';
import type { Replicas } from '../replicas/replicas.ts';
import type { RebuildCounts } from '../store/catalog/rebuild.ts';
import type { Evictor } from '../store/eviction/evictor.ts';
import type { Layout } from '../store/files/layout.ts';
import type { Upstream } from '../upstream/upstream.ts';
import type { Parts } from './parts.ts';

/** A command waits until a lost catalog is rebuilt. */
export interface RebuildFirst {
  /** Ends the wait. */
  readonly signal: AbortSignal;
  /** Called at the start of a rebuild, and every few seconds, with what has been found. */
  readonly onProgress: (found: RebuildCounts) => void;
}

export interface CacheOptions extends Omit<Parts, 'files'> {
  /**
   * What it is opened for: `serve`, or the name of a command that works alone. Such a command may have another
   * configuration at hand than the mirror has: it neither makes the cache smaller than it has found it nor changes what
   * is pinned.
   */
  readonly command: string;
  /** The other replicas; absent: one process alone. */
  readonly replicas?: Replicas | undefined;
  /** The replica that keeps the hosted repositories; absent: this one, or there are none. */
  readonly hostedOwner?: Upstream | undefined;
  /** Receives what happens to content; must not throw. */
  readonly onEvent?: ((event: MillpondEvent) => void) | undefined;
  /** The memory that blobs pass through; absent: some of its own. */
  readonly slabs?: Slabs | undefined;
  /** Receives each fact that changes; absent: nothing is kept that rests on facts. */
  readonly changes?: Changes | undefined;
  /** Counts what is on its way in memory; absent: nothing does. */
  readonly memory?: MemoryBudget | undefined;
  /**
   * Present: a catalog that was lost is rebuilt before it is used. Absent: it is rebuilt in the background, and requests go to
   * the upstreams meanwhile.
   */
  readonly rebuildFirst?: RebuildFirst | undefined;
}

/** A cache while it is opened, and the parts that change later. */
export interface Opening extends CacheOptions {
  /** In force. */
  config: Config;
  catalogFaults: number;
  /** Called when a catalog that was lost has been replaced by an empty one. */
  onCatalogReplaced: () => void;
  /** The manifests that are held for scanners. */
  readonly holds: HoldStore;
  /** There once the store is open. */
  evictor?: Evictor;
  readonly layout: Layout;
  readonly owned: AsyncDisposableStack;
  readonly isServing: boolean;
  readonly replicas: Replicas;
}
