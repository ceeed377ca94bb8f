import type { Config } from '../config/config.ts';
import { Mirror } from '../mirror/mirror.ts';
import type { MirrorEvent } from '../mirror/parts.ts';
import { unwatched } from '../oci/facts.ts';
import type { Report } from '../oci/report.ts';
import { Scrub } from '../store/care/scrub.ts';
import { Catalog } from '../store/catalog/catalog.ts';
import { Rebuild } from '../store/catalog/rebuild.ts';
import { Evictor } from '../store/eviction/evictor.ts';
import { budgetFor } from '../store/eviction-policy.ts';
import type { DiskFault } from '../store/files/blob-store.ts';
import { DiskStore } from '../store/files/disk-store.ts';
import { FileHasher } from '../store/files/file-hasher.ts';
import { fileSystemOf } from '../store/files/file-system.ts';
import { type Layout, layoutOf, prepareLayout } from '../store/files/layout.ts';
import { isOnReadOnlyDisk, openReadOnlyLayout } from '../store/files/read-only-layout.ts';
import { sweepIngest } from '../store/files/sweep.ts';
import { Verification } from '../store/files/verification.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Repository } from '../upstream/repository.ts';
import { backgroundReport } from './background-report.ts';
import { eventOfNews } from './content-events.ts';
import { described } from './described.ts';
import { cacheConditions, evictionReport } from './eviction-report.ts';
import { LiveUpstreams } from './live-upstreams.ts';
import type { Opening, RebuildFirst } from './opening.ts';
import { sayOwner, whenFree } from './owner.ts';
import { UpstreamMemory } from './upstream-memory.ts';
import { upstreamConditions, upstreamReadings, upstreamReport } from './upstream-report.ts';

/** Interval of progress reports while a command waits for a rebuild. */
const tellEveryMs = 5_000;

/** Commands that need nothing but what is stored. */
const readingCommands: readonly string[] = ['ls', 'export'];

/**
 * Prepares the cache directory. One on a read-only file system can be listed, exported and, offline, served.
 * @throws Error in one sentence
 */
export async function openLayout(
  config: Config,
  { command, owned, log }: { readonly command: string; readonly owned: AsyncDisposableStack; readonly log: Logger },
): Promise<Layout> {
  const layout = layoutOf(config.cache.dir);
  const isReading = readingCommands.includes(command) || (command === 'serve' && config.offline);
  if (!(await isOnReadOnlyDisk(layout))) await prepareLayout(layout);
  else if (isReading) {
    log.info({ cacheDir: layout.dir }, 'the file system of the cache is read-only: nothing new will be stored');
    return owned.use(await openReadOnlyLayout(layout)).layout;
  } else {
    const way =
      command === 'serve'
        ? 'set "offline: true" to serve what it has'
        : 'only ls, export and an offline mirror can use it';
    throw new Error(`the file system of the cache directory ${layout.dir} is read-only (EROFS): ${way}`);
  }
  return layout;
}

/** Locks the directory and opens its catalog. */
export async function openCatalog(opening: Opening): Promise<Catalog> {
  const { layout, command, owned, log, health, now } = opening;
  const open = (): Promise<Catalog> =>
    Catalog.open({
      path: layout.catalog,
      now,
      onFault: (error) => {
        opening.catalogFaults += 1;
        health.fault({ code: 'catalog-fault', text: 'the catalog cannot be read or written' });
        log.error({ error: described(error) }, 'catalog fault');
      },
      onReplaced: () => opening.onCatalogReplaced(),
      onManifest: (manifest) => opening.evictor?.room.arrivals.recorded(manifest),
      onNews(news) {
        // The replica that keeps a hosted repository holds its manifests and reports them.
        if (news.repository.startsWith('_')) return;
        opening.onEvent?.(eventOfNews(news));
        if (news.kind === 'manifest') opening.holds.note(news.repository, news.digest);
      },
      onUse: (digest) => opening.evictor?.room.arrivals.used(digest),
      ...(opening.changes && { changes: opening.changes }),
    });
  const onWait = (owner: unknown): void => log.info({ owner }, 'waiting for the cache directory');
  const catalog = owned.use(await whenFree(layout, open, { onWait }));
  owned.use(sayOwner(layout, command));
  // The catalog holds the lock of the directory: nothing else writes there.
  const sweptFiles = await sweepIngest(layout, { now });
  if (sweptFiles > 0) log.info({ files: sweptFiles }, 'left-over files removed');
  return catalog;
}

export async function openUpstreams({
  config,
  owned,
  replicas,
  memory,
  log,
  metrics,
  health,
  changes = unwatched,
  now,
  onEvent,
}: Opening): Promise<LiveUpstreams> {
  const upstreams = owned.use(
    new LiveUpstreams({
      memory: memory && new UpstreamMemory(memory),
      now,
      changes,
      report: upstreamReport({
        log,
        metrics,
        onEvent,
        onLimited: (upstream, pause) => void replicas.coordinator.announce({ kind: 'limit', upstream, ...pause }),
      }),
    }),
  );
  await upstreams.replace(config, (prepared) => prepared.use());
  health.watch(() => upstreamConditions(upstreams.all));
  metrics.watchUpstreams(() => upstreamReadings(upstreams.all));
  return upstreams;
}

/** The files, and what keeps them within their budget. */
export async function openStore(
  opening: Opening,
  { catalog, report }: { readonly catalog: Catalog; readonly report: Report<MirrorEvent> },
): Promise<{ store: DiskStore; evictor: Evictor }> {
  const { config, layout, owned, replicas, log, metrics, health } = opening;
  const { offline } = config;
  const store = new DiskStore({
    layout,
    memoryBytes: config.cache.memoryBytes,
    onAltered: (digest) => {
      catalog.blobs.forget(digest);
      report({ kind: 'altered', digest });
    },
    onGone: (digest) => replicas.coordinator.drop(digest),
    changes: opening.changes ?? unwatched,
    space: {
      begun: (digest) => evictor.room.begun(digest),
      mayGrow: (digest, bytes) => evictor.room.mayGrow(digest, bytes),
      claim: (digest, bytes) => evictor.room.claim(digest, bytes),
      closed: (digest) => evictor.room.closed(digest),
      look: () => evictor.look(),
    },
  });
  const budget = await budgetOf(opening, catalog);
  const evictions = evictionReport({ log, metrics, report, onEvent: opening.onEvent });
  const evictor: Evictor = owned.use(
    new Evictor({ fileSystem: () => fileSystemOf(layout.dir), store, catalog, budget, offline, report: evictions }),
  );
  opening.evictor = evictor;
  health.watch(() => cacheConditions({ evictor, offline }));
  metrics.watchCache(() => ({ ...catalog.blobs.usage(), budgetBytes: budget.maxSizeBytes }));
  return { store, evictor };
}

/** The budget of the configuration in force; for a command that works alone, never less than what it has found. */
async function budgetOf(
  opening: Opening,
  catalog: Catalog,
): Promise<{ readonly maxSizeBytes: number; readonly minFreeBytes: number }> {
  const { layout, isServing } = opening;
  const isKeptAsFound = !isServing || layout.isReadOnly;
  const found = isKeptAsFound ? { ...catalog.blobs.usage(), ...(await fileSystemOf(layout.dir)) } : undefined;
  // If less was free already, that is not for this command to mend; a disk that is full makes room all the same.
  const freeBytesFound = layout.isReadOnly ? 0 : (found?.freeBytes ?? Number.POSITIVE_INFINITY);
  return {
    get maxSizeBytes() {
      return Math.max(opening.config.cache.maxSizeBytes, budgetFor(found?.bytes ?? 0));
    },
    get minFreeBytes() {
      const { minFreeBytes } = opening.config.cache;
      return freeBytesFound < minFreeBytes ? 0 : minFreeBytes;
    },
  };
}

export function openMirror(
  opening: Opening,
  parts: {
    readonly catalog: Catalog;
    readonly store: DiskStore;
    readonly evictor: Evictor;
    readonly report: Report<MirrorEvent>;
    readonly repository: (key: string) => Repository | undefined;
  },
): Mirror {
  const { layout, owned, replicas, slabs, changes, now } = opening;
  const { catalog, store, evictor, repository } = parts;
  const report: Report<MirrorEvent> = (event) => {
    parts.report(event);
    if (event.kind === 'disk-fault' && isFull(event.error)) evictor.diskWasFull();
  };
  // What is read again while a client waits has no rate, and does not wait for what is read in the background.
  const verification = new Verification({ layout, catalog, hasher: owned.use(new FileHasher()), now });
  return owned.use(
    new Mirror({
      check: (digest, recordedSize, given) => verification.check(digest, recordedSize, given),
      store,
      catalog,
      offline: opening.config.offline,
      limits: {
        get maxBlobBytes() {
          return opening.config.cache.maxBlobSizeBytes;
        },
        get maxFills() {
          return opening.config.cache.maxFills;
        },
      },
      report,
      replicas,
      repository,
      slabs,
      changes,
      now,
    }),
  );
}

/** Prepares the rebuild of a catalog that was lost, and runs it if a command waits for it. */
export async function openRebuild(
  { config, layout, health, rebuildFirst, ...opening }: Opening,
  { catalog, store }: { readonly catalog: Catalog; readonly store: DiskStore },
): Promise<Rebuild> {
  const report = backgroundReport({ ...opening, health });
  const rebuild = new Rebuild({
    layout,
    catalog,
    store,
    report(event) {
      report(event);
      // Nothing of what was found on the disk has been hashed by this catalog.
      if (event.kind === 'rebuilt') Scrub.makeDue(catalog);
    },
  });
  await rebuild.skipIfEmpty();
  if (rebuildFirst) await rebuildNow(rebuild, rebuildFirst);
  // If no upstream can be asked, an answer without the names would be wrong.
  if (config.offline) await rebuild.readNames(new AbortController().signal);
  const text =
    'the catalog was lost or is older than names-1.journal and is being rebuilt from the disk: ' +
    'what is not known again yet is asked of the upstreams';
  health.watch(() => (rebuild.stage === undefined ? [] : [{ code: 'catalog-lost', text }]));
  return rebuild;
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
