import { KeyStore } from '../access/key-store.ts';
import type { Config } from '../config/config.ts';
import type { HoldStore } from '../holds/hold-store.ts';
import type { Mirror } from '../mirror/mirror.ts';
import type { Report } from '../mirror/mirror-event.ts';
import { blobFact } from '../oci/facts.ts';
import { recallPins, usePins } from '../operations/owner/administration/configured-pins.ts';
import type { AdministrationEvent } from '../operations/owner/cache/owned-cache.ts';
import { Repair } from '../operations/owner/verify/repair.ts';
import { Replicas } from '../replicas/replicas.ts';
import type { Catalog } from '../store/catalog/catalog.ts';
import type { Room } from '../store/eviction/room.ts';
import type { DiskStore } from '../store/files/disk-store.ts';
import type { Layout } from '../store/files/layout.ts';
import type { Audit } from '../telemetry/audit.ts';
import { findRepository, repositoryOf } from '../upstream/repository.ts';
import { openCatalog, openLayout, openMirror, openRebuild, openStore, openUpstreams } from './cache-parts.ts';
import { HoldDecisions, openHolds } from './holds.ts';
import { keysFileOf } from './keys-file.ts';
import type { LiveUpstreams } from './live-upstreams.ts';
import { administrationReport, fillObserver, mirrorReport, sharedAdministration } from './observers.ts';
import type { CacheOptions, Opening } from './opening.ts';
import { Upkeep } from './upkeep.ts';

/** How often it is looked whether the file system still has its free space. */
const lookEveryMs = 1_000;

/** A cache directory that this process owns, and the mirror over it. */
export interface Cache extends AsyncDisposable {
  readonly layout: Layout;
  readonly catalog: Catalog;
  readonly store: DiskStore;
  readonly upstreams: LiveUpstreams;
  readonly mirror: Mirror;
  /** Fetches again what was here and is not any more. */
  readonly repair: Repair;
  /** Room on the disk. */
  readonly room: Room;
  /** The configuration in force. */
  readonly config: Config;
  readonly now: () => number;
  /** What is held for scanners. */
  readonly holds: HoldStore;
  readonly decisions: HoldDecisions;
  /** Reads and writes of the catalog that have failed so far. */
  readonly catalogFaults: number;
  /** Keys of robots. */
  readonly keys: KeyStore;
  /** Writes down refusals and changes. */
  readonly audit: Audit;
  /** Receives what operators change. */
  readonly reportAdministration: Report<AdministrationEvent>;
  /** Puts another configuration in force. @param use puts dependent parts in force, before kept answers are dropped @throws Error where an upstream cannot be made of it; nothing has changed then */
  replaceConfig(config: Config, use?: () => void): Promise<void>;
}

/**
 * Opens a cache directory, makes it where there is none, and puts a mirror over it that serves no client yet: what a running
 * mirror and a command that works alone have in common.
 * @throws Error in one sentence when the directory cannot be had; the reason of the signal of `rebuildFirst`
 */
export async function openCache(started: Config, options: CacheOptions): Promise<Cache> {
  const { command, log, metrics, now, replicas = Replicas.none() } = options;
  await using owned = new AsyncDisposableStack();
  const layout = await openLayout(started, { command, owned, log });
  const isServing = command === 'serve';
  let inForce = () => started;
  const holds = owned.use(
    await openHolds({
      ...options,
      config: () => inForce(),
      onDecided: (digest) => options.changes?.changed(blobFact(digest)),
    }),
  );
  const opening: Opening = {
    ...options,
    config: started,
    catalogFaults: 0,
    layout,
    owned,
    isServing,
    replicas,
    holds,
    onCatalogReplaced: () => undefined,
  };

  inForce = () => opening.config;
  const catalog = await openCatalog(opening);
  const upstreams = await openUpstreams(opening);
  const observer = fillObserver(options);
  const report = mirrorReport(options);
  const { store, evictor } = await openStore(opening, { catalog, report });
  const { hostedOwner } = options;
  const repository = (key: string) =>
    hostedOwner !== undefined && key.startsWith(`${hostedOwner.name}/`)
      ? repositoryOf(hostedOwner, key.slice(hostedOwner.name.length + 1))
      : findRepository(upstreams.table, key);
  const mirror = openMirror(opening, { catalog, store, evictor, observer, report, repository });

  if (isServing) usePins(catalog, started.cache.pins, upstreams.table);
  else recallPins(catalog, upstreams.table);
  const { downloads, manifests } = mirror;
  const repair = new Repair({ store, catalog, downloads, manifests, offline: started.offline, repository });
  const rebuild = await openRebuild(opening, { catalog, store });
  const upkeep = owned.use(new Upkeep({ catalog, rebuild, log }));
  opening.onCatalogReplaced = () => {
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
      return opening.config;
    },
    get catalogFaults() {
      return opening.catalogFaults;
    },
    reportAdministration: sharedAdministration(administrationReport(log, options.audit), replicas.coordinator),
    keys: new KeyStore({ path: keysFileOf(started), now }),
    audit: options.audit,
    holds,
    decisions: new HoldDecisions({
      holds,
      catalog,
      store,
      upstreams,
      config: () => opening.config,
      announce: (kind, name, digest) =>
        void replicas.coordinator.announce({ kind, repository: name, reference: digest }),
    }),
    repair,
    room: evictor.room,
    async replaceConfig(next, use) {
      await upstreams.replace(next, (prepared) => {
        usePins(catalog, next.cache.pins, prepared.table);
        prepared.use();
        opening.config = next;
        use?.();
        opening.changes?.changedAll();
      });
      upkeep.look();
      evictor.look();
    },
    [Symbol.asyncDispose]: () => rest.disposeAsync(),
  };
}
