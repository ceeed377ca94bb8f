import type { Config } from '../config/config.ts';
import { Repair } from '../mirror/care/repair.ts';
import { Scrub } from '../mirror/care/scrub.ts';
import { Mirror } from '../mirror/mirror.ts';
import { findRepository } from '../mirror/repository.ts';
import { Replicas } from '../mirror/sharing/replicas.ts';
import type { Slabs } from '../mirror/slabs.ts';
import { recallPins, usePins } from '../operations/owner/administration/configured-pins.ts';
import type { AdministrationObserver } from '../operations/owner/cache/owned-cache.ts';
import { Catalog } from '../store/catalog/catalog.ts';
import { Rebuild, type RebuildCounts } from '../store/catalog/rebuild.ts';
import { Evictor } from '../store/eviction/evictor.ts';
import { budgetFor } from '../store/eviction-policy.ts';
import type { DiskFault } from '../store/files/blob-store.ts';
import { DiskStore } from '../store/files/disk-store.ts';
import { FileHasher } from '../store/files/file-hasher.ts';
import { fileSystemOf } from '../store/files/file-system.ts';
import { type Layout, layoutOf, prepareLayout } from '../store/files/layout.ts';
import { sweepIngest } from '../store/files/sweep.ts';
import { Verification } from '../store/files/verification.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { cacheConditions, evictionObserver } from './eviction-observer.ts';
import type { Health } from './health.ts';
import { LiveUpstreams } from './live-upstreams.ts';
import {
  administrationObserver,
  described,
  mirrorObserver,
  rebuildObserver,
  sharedAdministration,
  upstreamConditions,
  upstreamObserver,
  upstreamReadings,
} from './observers.ts';
import { type Owner, sayOwner, whenFree } from './owner.ts';
import { Upkeep } from './upkeep.ts';

/** How often it is looked whether the file system still has its free space. */
const lookEveryMs = 1_000;
/** How often whoever waits for a rebuild is told how far it is. */
const tellEveryMs = 5_000;

/** A cache directory that this process owns, and the mirror over it. */
export interface Cache extends AsyncDisposable {
  readonly layout: Layout;
  readonly catalog: Catalog;
  readonly store: DiskStore;
  readonly upstreams: LiveUpstreams;
  readonly mirror: Mirror;
  /** Fetches again what was here and is not any more. */
  readonly repair: Repair;
  /** The configuration in force. */
  readonly config: Config;
  readonly now: () => number;
  /** Reads and writes of the catalog that have failed so far. */
  readonly catalogFaults: number;
  /** Is told of what operators change. */
  readonly administrationObserver: AdministrationObserver;
  /** Puts another configuration in force. @throws Error where an upstream cannot be made of it; nothing has changed then */
  replaceConfig(config: Config): Promise<void>;
}

/** Somebody waits until a lost catalog is rebuilt. */
export interface RebuildFirst {
  /** Ends the wait. */
  readonly signal: AbortSignal;
  /** Told at the beginning and then once in a while, where there is something to be rebuilt, what has been found. */
  readonly onProgress: (found: RebuildCounts) => void;
}

export interface CacheOptions {
  /**
   * What it is opened for: `serve`, or the name of a command that works alone. Such a command may have another
   * configuration at hand than the mirror has: it neither makes the cache smaller than it has found it nor changes what
   * is pinned.
   */
  readonly command: string;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly health: Health;
  /** The other replicas; absent: one process alone. */
  readonly replicas?: Replicas | undefined;
  /** The memory that blobs pass through; absent: some of its own. */
  readonly slabs?: Slabs | undefined;
  /**
   * Present: a catalog that was lost is rebuilt before anything is asked of it. Absent: behind what is asked, which goes
   * to the upstreams where that has to be.
   */
  readonly rebuildFirst?: RebuildFirst | undefined;
  /** Wall clock in milliseconds. */
  readonly now: () => number;
}

/**
 * Opens a cache directory, makes it where there is none, and puts a mirror over it that serves nobody yet: what a running
 * mirror and a command that works alone have in common.
 * @throws Error in one sentence when the directory cannot be had; the reason of the signal of `rebuildFirst`
 */
export async function openCache(started: Config, options: CacheOptions): Promise<Cache> {
  const { command, log, metrics, health, now, slabs, replicas = Replicas.none() } = options;
  const isServing = command === 'serve';
  let config = started;
  let catalogFaults = 0;
  await using owned = new AsyncDisposableStack();
  let afterLoss = () => undefined as void;
  const layout = layoutOf(config.cache.dir);
  await prepareLayout(layout);
  const open = (): Promise<Catalog> =>
    Catalog.open({
      path: layout.catalog,
      now,
      onFault: (error) => {
        catalogFaults += 1;
        health.fault({ code: 'catalog-fault', text: 'the catalog cannot be read or written' });
        log.error({ error: described(error) }, 'catalog fault');
      },
      onReplaced: () => afterLoss(),
      onManifest: (manifest) => evictor.room.arrivals.recorded(manifest),
      onUse: (digest) => evictor.room.arrivals.used(digest),
    });
  const onWait = (owner: Owner | undefined): void => log.info({ owner }, 'waiting for the cache directory');
  const catalog = owned.use(await whenFree(layout, open, { onWait }));
  owned.use(sayOwner(layout, command));
  // With the catalog goes the lock of the directory: nobody else writes there.
  const sweptFiles = await sweepIngest(layout, { now });
  if (sweptFiles > 0) log.info({ files: sweptFiles }, 'left-over files removed');
  const upstreams = owned.use(
    new LiveUpstreams({
      now,
      observer: upstreamObserver({
        log,
        metrics,
        onLimited: (upstream, pause) => void replicas.coordinator.announce({ kind: 'limit', upstream, ...pause }),
      }),
    }),
  );
  await upstreams.replace(config, (prepared) => prepared.use());
  health.watch(() => upstreamConditions(upstreams.all));
  metrics.watchUpstreams(() => upstreamReadings(upstreams.all));
  const observer = mirrorObserver({ log, metrics, health });
  const store = new DiskStore({
    layout,
    memoryBytes: config.cache.memoryBytes,
    onAltered: (digest) => {
      catalog.blobs.forget(digest);
      observer.altered(digest);
    },
    onGone: (digest) => replicas.coordinator.drop(digest),
    space: {
      begun: (digest) => evictor.room.begun(digest),
      mayGrow: (digest, bytes) => evictor.room.mayGrow(digest, bytes),
      claim: (digest, bytes) => evictor.room.claim(digest, bytes),
      closed: (digest) => evictor.room.closed(digest),
      look: () => evictor.look(),
    },
  });
  const repository = (key: string) => findRepository(upstreams.table, key);
  // What is read again for somebody who waits has no rate, and does not wait for what is read in the background.
  const verification = new Verification({ layout, catalog, hasher: owned.use(new FileHasher()), now });
  const { offline } = config;
  const found = isServing ? undefined : { ...catalog.blobs.usage(), ...(await fileSystemOf(layout.dir)) };
  // What less was free already, others have to mend; a disk that is full makes room all the same.
  const freeBytesFound = found?.freeBytes ?? Number.POSITIVE_INFINITY;
  const budget = {
    get maxSizeBytes() {
      return Math.max(config.cache.maxSizeBytes, budgetFor(found?.bytes ?? 0));
    },
    get minFreeBytes() {
      return freeBytesFound < config.cache.minFreeBytes ? 0 : config.cache.minFreeBytes;
    },
  };
  const evictions = evictionObserver({ log, metrics, observer });
  const evictor: Evictor = owned.use(
    new Evictor({ fileSystem: () => fileSystemOf(layout.dir), store, catalog, budget, offline, observer: evictions }),
  );
  health.watch(() => cacheConditions({ evictor, offline }));
  metrics.watchCache(() => ({ ...catalog.blobs.usage(), budgetBytes: budget.maxSizeBytes }));
  const mirror = owned.use(
    new Mirror({
      check: (digest, recordedSize, given) => verification.check(digest, recordedSize, given),
      store,
      catalog,
      offline,
      limits: {
        get maxFills() {
          return config.cache.maxFills;
        },
      },
      observer: {
        ...observer,
        diskFault: (error) => {
          observer.diskFault(error);
          if (isFull(error)) evictor.diskWasFull();
        },
      },
      replicas,
      repository,
      slabs,
      now,
    }),
  );
  if (isServing) usePins(catalog, config.cache.pins, upstreams.table);
  else recallPins(catalog, upstreams.table);
  const { downloads, manifests } = mirror;
  const repair = new Repair({ store, catalog, downloads, manifests, offline, repository });
  const rebuild = new Rebuild({
    layout,
    catalog,
    store,
    observer: rebuildObserver({ log, metrics, health }, () => Scrub.makeDue(catalog)),
  });
  await rebuild.skipIfEmpty();
  if (options.rebuildFirst) await rebuildNow(rebuild, options.rebuildFirst);
  // Where nobody can be asked, an answer without the names would be a wrong one.
  if (config.offline) await rebuild.readNames(new AbortController().signal);
  health.watch(() =>
    rebuild.stage === undefined
      ? []
      : [
          {
            code: 'catalog-lost',
            text: 'the catalog was lost and is being rebuilt from the disk: what is not known again yet is asked of the upstreams',
          },
        ],
  );
  const upkeep = owned.use(new Upkeep({ catalog, rebuild, log }));
  afterLoss = () => {
    metrics.catalogsLost.inc();
    upkeep.look();
  };
  const looking = isServing ? setInterval(() => evictor.look(), lookEveryMs) : undefined;
  owned.defer(() => clearInterval(looking));
  const rest = owned.move();
  return {
    layout,
    catalog,
    store,
    upstreams,
    mirror,
    now,
    get config() {
      return config;
    },
    get catalogFaults() {
      return catalogFaults;
    },
    administrationObserver: sharedAdministration(administrationObserver(log), replicas.coordinator),
    repair,
    async replaceConfig(next) {
      await upstreams.replace(next, (prepared) => {
        usePins(catalog, next.cache.pins, prepared.table);
        prepared.use();
        config = next;
      });
      upkeep.look();
      evictor.look();
    },
    [Symbol.asyncDispose]: () => rest.disposeAsync(),
  };
}

async function rebuildNow(rebuild: Rebuild, { signal, onProgress }: RebuildFirst): Promise<void> {
  if (rebuild.stage === undefined) return;
  onProgress(rebuild.counts);
  using _telling = setInterval(() => onProgress(rebuild.counts), tellEveryMs);
  await rebuild.run(signal);
}

function isFull({ code }: DiskFault): boolean {
  return code === 'ENOSPC' || code === 'EDQUOT';
}
