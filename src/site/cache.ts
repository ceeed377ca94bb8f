import { KeyStore } from '../access/key-store.ts';
import type { Config } from '../config/config.ts';
import type { HoldStore } from '../holds/hold-store.ts';
import type { Mirror } from '../mirror/mirror.ts';
import type { Digest } from '../oci/digest.ts';
import { blobFact, callersFact } from '../oci/facts.ts';
import type { Report } from '../oci/report.ts';
import { recallPins, usePins } from '../operations/owner/administration/configured-pins.ts';
import type { AdministrationEvent } from '../operations/owner/cache/owned-cache.ts';
import { Repair } from '../operations/owner/verify/repair.ts';
import { Replicas } from '../replicas/replicas.ts';
import type { Catalog } from '../store/catalog/catalog.ts';
import type { Evictor } from '../store/eviction/evictor.ts';
import type { Room } from '../store/eviction/room.ts';
import type { DiskStore } from '../store/files/disk-store.ts';
import type { Layout } from '../store/files/layout.ts';
import type { Audit } from '../telemetry/audit.ts';
import { findRepository, type Repository, repositoryOf } from '../upstream/repository.ts';
import type { Upstream } from '../upstream/upstream.ts';
import { administrationReport, sharedAdministration } from './administration-report.ts';
import { openCatalog, openLayout, openMirror, openRebuild, openStore, openUpstreams } from './cache-parts.ts';
import { HoldDecisions, openHolds } from './holds.ts';
import { keysFileOf } from './keys-file.ts';
import type { LiveUpstreams } from './live-upstreams.ts';
import { mirrorReport } from './mirror-report.ts';
import type { CacheOptions, Opening } from './opening.ts';
import { CacheSignatures } from './signatures.ts';
import { Upkeep } from './upkeep.ts';

/** Interval between checks of the free space of the file system. */
const lookEveryMs = 1_000;

/** A cache directory that this process owns, and the mirror over it. */
export interface Cache extends AsyncDisposable {
  readonly layout: Layout;
  readonly catalog: Catalog;
  readonly store: DiskStore;
  readonly upstreams: LiveUpstreams;
  readonly mirror: Mirror;
  /** Fetches content again that was stored and was lost or damaged. */
  readonly repair: Repair;
  /** Room on the disk. */
  readonly room: Room;
  /** The configuration in force. */
  readonly config: Config;
  readonly now: () => number;
  /** The manifests that are held for scanners. */
  readonly holds: HoldStore;
  readonly decisions: HoldDecisions;
  /** Decides by signatures what is served, fetched and exported. */
  readonly signatures: CacheSignatures;
  /** Reads and writes of the catalog that have failed so far. */
  readonly catalogFaults: number;
  /** Keys of robots. */
  readonly keys: KeyStore;
  /** Writes down refusals and changes. */
  readonly audit: Audit;
  /** Receives what operators change. */
  readonly reportAdministration: Report<AdministrationEvent>;
  /**
   * Puts another configuration in force.
   * @param use puts dependent parts in force, before kept answers are dropped
   * @throws Error where an upstream cannot be made of it; nothing has changed then
   */
  replaceConfig(config: Config, use?: () => void): Promise<void>;
}

/** The content of a cache directory, and the mirror over it. */
interface Content extends Pick<Cache, 'catalog' | 'upstreams' | 'store' | 'mirror'> {
  readonly evictor: Evictor;
  readonly repository: (key: string) => Repository | undefined;
}

/**
 * Opens a cache directory, makes it where there is none, and puts a mirror over it that serves no client yet: what a running
 * mirror and a command that works alone have in common.
 * @throws Error in one sentence when the directory cannot be had; the reason of the signal of `rebuildFirst`
 */
export async function openCache(started: Config, options: CacheOptions): Promise<Cache> {
  await using owned = new AsyncDisposableStack();
  const opening = await openDirectory(started, { ...options, owned });
  const content = await openContent(opening);
  const care = await openCare(opening, content);
  const decided = await openDecisions(opening, content);
  const rest = owned.move();
  const { layout, now, audit, log } = opening;
  const { catalog, store, upstreams, mirror, evictor } = content;
  return {
    layout,
    catalog,
    store,
    upstreams,
    mirror,
    ...decided,
    now,
    audit,
    repair: care.repair,
    room: evictor.room,
    keys: new KeyStore({
      path: keysFileOf(started),
      now,
      onChange: () => opening.changes?.changed(callersFact),
    }),
    reportAdministration: sharedAdministration(administrationReport(log, audit), opening.replicas.coordinator),
    get config() {
      return opening.config;
    },
    get catalogFaults() {
      return opening.catalogFaults;
    },
    async replaceConfig(next, use) {
      await upstreams.replace(next, (prepared) => {
        usePins(catalog, next.cache.pins, prepared.table);
        prepared.use();
        opening.config = next;
        use?.();
        opening.changes?.changedAll();
      });
      care.upkeep.look();
      evictor.look();
    },
    [Symbol.asyncDispose]: () => rest.disposeAsync(),
  };
}

/** The directory, and the list of what is held, which is in it beside the blobs. */
async function openDirectory(
  started: Config,
  options: CacheOptions & { readonly owned: AsyncDisposableStack },
): Promise<Opening> {
  const { command, owned } = options;
  let opening: Opening | undefined;
  const config = (): Config => opening?.config ?? started;
  const layout = await openLayout(started, options);
  const onDecided = (digest: Digest) => options.changes?.changed(blobFact(digest));
  const holds = owned.use(await openHolds({ ...options, config, onDecided }));
  opening = {
    ...options,
    replicas: options.replicas ?? Replicas.none(),
    config: started,
    catalogFaults: 0,
    layout,
    owned,
    isServing: command === 'serve',
    holds,
    onCatalogReplaced: () => undefined,
  };
  return opening;
}

/** The catalog, the upstreams, the files, and the mirror over them. */
async function openContent(opening: Opening): Promise<Content> {
  const catalog = await openCatalog(opening);
  const upstreams = await openUpstreams(opening);
  const report = mirrorReport(opening);
  const { store, evictor } = await openStore(opening, { catalog, report });
  const repository = repositoriesOf(upstreams, opening.hostedOwner);
  const mirror = openMirror(opening, { catalog, store, evictor, report, repository });
  return { catalog, upstreams, store, evictor, mirror, repository };
}

/** Pins are marked, a lost catalog is rebuilt, and from here on the rest is kept in order in the background. */
async function openCare(opening: Opening, content: Content): Promise<{ repair: Repair; upkeep: Upkeep }> {
  const { owned, log, metrics, isServing } = opening;
  const { catalog, store, upstreams, mirror, evictor, repository } = content;
  const { cache, offline } = opening.config;
  if (isServing) usePins(catalog, cache.pins, upstreams.table);
  else recallPins(catalog, upstreams.table);
  const { fills, manifests } = mirror;
  const repair = new Repair({ store, catalog, fills, manifests, offline, repository });
  const rebuild = await openRebuild(opening, { catalog, store });
  const upkeep = owned.use(new Upkeep({ catalog, rebuild, log }));
  opening.onCatalogReplaced = () => {
    metrics.catalogsLost.inc();
    upkeep.look();
  };
  const looking = isServing ? setInterval(() => evictor.look(), lookEveryMs) : undefined;
  owned.defer(() => clearInterval(looking));
  return { repair, upkeep };
}

/** Opens what decides which content is served: signatures, and scanners. */
async function openDecisions(
  opening: Opening,
  { mirror, catalog, store, upstreams }: Content,
): Promise<Pick<Cache, 'holds' | 'decisions' | 'signatures'>> {
  const { log, metrics, now, holds, isServing, replicas } = opening;
  const config = () => opening.config;
  const signatures = new CacheSignatures({ mirror, catalog, store, now }, { log, metrics, config });
  if (isServing) await signatures.load();
  const decisions = new HoldDecisions({
    holds,
    catalog,
    store,
    upstreams,
    config,
    announce: (kind, name, digest) => void replicas.coordinator.announce({ kind, repository: name, reference: digest }),
  });
  return { holds, decisions, signatures };
}

/** Finds repositories by the cache's name of them, among those of the upstreams in force and of the replica that hosts. */
function repositoriesOf(
  upstreams: LiveUpstreams,
  hostedOwner: Upstream | undefined,
): (key: string) => Repository | undefined {
  return (key) =>
    hostedOwner !== undefined && key.startsWith(`${hostedOwner.name}/`)
      ? repositoryOf(hostedOwner, key.slice(hostedOwner.name.length + 1))
      : findRepository(upstreams.table, key);
}
