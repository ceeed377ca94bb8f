import type { Config } from '../config/config.ts';
import { changedKeys, withoutRestart } from '../config/restart.ts';
import type { Search } from '../discovery/search/search.ts';
import { Generations } from '../front/generations.ts';
import type { HostedObserver } from '../hosted/changes.ts';
import type { Slabs } from '../memory/slabs.ts';
import { operationsOf } from '../operations/owner/operations.ts';
import { Holdings } from '../replicas/holdings.ts';
import { AuditLog } from '../telemetry/audit.ts';
import type { Logger, RequestLog } from '../telemetry/logger.ts';
import { Metrics } from '../telemetry/metrics.ts';
import { Turns } from '../waiting/turns.ts';
import { openAccess } from './access.ts';
import { type Cache, openCache } from './cache.ts';
import { upstreamFiles } from './configured-files.ts';
import { changeObserver } from './content-events.ts';
import type { EventLoop } from './event-loop.ts';
import { EarlyEvents, openEvents } from './events.ts';
import { Health } from './health.ts';
import { openHosted } from './hosted.ts';
import { hostedRules } from './hosted-rules.ts';
import { type ClientListener, openListener } from './open-listener.ts';
import type { Parts } from './parts.ts';
import { Prefetcher } from './prefetcher.ts';
import type { LiveReplicas } from './replicas.ts';
import { startScrub } from './scrub.ts';
import { openSearch } from './search.ts';
import { openServerTls } from './server-tls.ts';
import { SharedChanges } from './shared-changes.ts';
import { openShortWay } from './short-way.ts';
import { signaturePolicies } from './signature-policies.ts';
import { openSignatures, policyFiles } from './signatures.ts';
import { openSiteControl } from './site-control.ts';
import { Walls } from './walls.ts';
import { WatchedFiles } from './watched-files.ts';

/** A running mirror. */
export interface Site {
  /** `host:port` it listens on. */
  readonly address: string;
  /** Closes the listener at once, lets transfers end within the configured time, gives everything back. */
  stop(): Promise<void>;
  /**
   * Puts another configuration in force for requests that come from now on; those under way end with what they began. Files
   * that it names are read again where they have changed.
   * @throws Error where an upstream cannot be made of it; nothing has changed then
   */
  reload(config: Config): Promise<Reload>;
}

/** What has come of another configuration: keys, such as `cache.tagTtl`. */
export interface Reload {
  /** In force now. */
  readonly changed: readonly string[];
  /** Of files that hold something else than before, which is in force now. */
  readonly files: readonly string[];
  /** They differ and need a restart: they stay as they were. */
  readonly restart: readonly string[];
}

export interface SiteOptions {
  readonly log: Logger;
  /** Default: `log` itself. */
  readonly requestLog?: RequestLog | undefined;
  /** How many lines the log has lost so far. Default: none. */
  readonly lostLines?: () => number;
  /** What watches the event loop of the process; absent: nothing does. */
  readonly eventLoop?: EventLoop | undefined;
  /** The memory that blobs pass through; absent: some of its own. */
  readonly slabs?: Slabs | undefined;
  /** Wall clock in milliseconds. */
  readonly now?: () => number;
  /** Whether answers are kept and given again without a decision. Default: true. */
  readonly keepsAnswers?: boolean | undefined;
  /** Longest wait for an answer of Redis, in milliseconds; absent: the one that users have. */
  readonly redisDeadlineMs?: number | undefined;
}

/**
 * Puts a mirror together from its configuration and starts it: the one place that knows all the parts.
 * @throws Error in one sentence when the directory or the address cannot be had
 */
export async function startSite(started: Config, options: SiteOptions): Promise<Site> {
  const { slabs, redisDeadlineMs, keepsAnswers = true } = options;
  await using owned = new AsyncDisposableStack();
  const audit = owned.use(new AuditLog({ log: options.log, file: started.log.auditFile }));
  const parts = createParts({ ...options, audit: audit.write });
  const tls = await openServerTls(started.tls, parts);
  const { peers } = started.listeners;
  const peersTls = peers ? await openServerTls(peers.tls, { ...parts, around: ['listeners', 'peers', 'tls'] }) : tls;
  // A mirror by itself does not load the client of Redis, nor what replicas say to each other.
  const joining = started.redis && (await import('./replicas.ts'));
  const others = await joining?.openReplicas(started, { ...parts, redisDeadlineMs, tls: peersTls?.current });
  if (others) owned.use(others);
  const linking = started.hosted?.owner !== undefined && (await import('./hosted-owner.ts'));
  const owner = linking ? linking.openHostedOwner(started, { others, config: () => cache.config }) : undefined;
  let inForce = () => started;
  const early = new EarlyEvents();
  const onEvent = early.add;
  const { replicas } = others ?? {};
  const walls = new Walls({ config: () => inForce(), ...parts });
  const { memory } = walls;
  const generations = keepsAnswers ? new Generations() : undefined;
  const opening = {
    ...parts,
    command: 'serve',
    slabs,
    memory,
    replicas,
    hostedOwner: owner?.upstream,
    changes: generations,
    onEvent,
  };
  const cache: Cache = owned.use(await openCache(started, opening));
  inForce = () => cache.config;
  const events = owned.use(await openEvents(started, { ...parts, config: inForce }));
  early.handTo(events);
  cache.mirror.downloads.slabs.countIn(memory);
  const observeEvents = changeObserver(onEvent, cache.holds);
  const onHostedChange: HostedObserver = (change) => {
    observeEvents(change);
    search.hostedChanged(change);
  };
  const hosted = owner ? undefined : openHosted(() => cache.config, { ...parts, observer: onHostedChange });
  if (hosted) owned.use(hosted);
  const search: Search = owned.use(openSearch(cache, { ...parts, hosted: hosted?.registry }));
  search.start();
  const signatures = await openSignatures(cache, parts);
  const access = owned.use(await openAccess(() => cache.config, { ...parts, cache }));
  const operations = operationsOf(cache, {
    search,
    hosted: { registry: hosted?.registry, rules: hostedRules(inForce) },
  });
  const requestLog = options.requestLog ?? ((level, fields) => parts.log[level](fields, 'request'));
  const { admission } = walls;
  const short =
    generations && owned.use(openShortWay(cache, { ...parts, generations, admission, search, log: requestLog }));
  const listener = await openListener(cache, {
    ...parts,
    walls,
    others,
    tls,
    peersTls,
    hosted,
    owner,
    access,
    events,
    search,
    operations,
    requestLog,
    short,
    signatures,
    generations,
  });
  if (others) owned.use(joinReplicas(others, { ...parts, cache, listener }));
  const prefetcher = owned.use(new Prefetcher({ cache, ...parts }));
  const scrub = owned.use(startScrub(cache, parts));
  const control = await openSiteControl(cache, {
    ...parts,
    walls,
    others,
    prefetcher,
    operations,
    hosted: owner ?? hosted,
    address: listener.address,
    access,
    eventLoop: options.eventLoop,
  });
  if (control) owned.use(control);

  const { files, health, log } = parts;
  const watchUpstreams = async (): Promise<void> => {
    const { config, upstreams } = cache;
    const uses = await upstreamFiles(config, { renew: (name) => upstreams.renew(cache.config, name) });
    const takeKeys = async (): Promise<void> => {
      signatures.use(await signaturePolicies(cache.config));
      generations?.changedAll();
    };
    files.replace('upstreams', [...uses, ...policyFiles(config, takeKeys)]);
  };
  await watchUpstreams();
  files.start();
  owned.use(files);
  const rest = owned.move();
  return {
    address: listener.address,
    async stop() {
      health.drain();
      events.end();
      await Promise.all([listener.close(cache.config.timeouts.drainMs), prefetcher[Symbol.asyncDispose]()]);
      await rest.disposeAsync();
    },
    async reload(wanted) {
      const { config, left } = withoutRestart(cache.config, wanted);
      const changed: string[] = [];
      const turns = new Turns();
      for (const key of changedKeys(cache.config, config)) {
        if (key !== undefined) changed.push(key);
        await turns.next();
      }
      const policies = await signaturePolicies(config);
      // Callers have to be known as soon as they are distinguished.
      const taken = await access.prepare(config);
      try {
        await cache.replaceConfig(config, () => signatures.use(policies));
      } catch (error) {
        await access.prepare(cache.config);
        throw error;
      }
      access.settle();
      if (changed.length > 0) audit.write('configuration changed', { changed });
      prefetcher.replace(config);
      scrub.look();
      log.level = config.log.level;
      listener.look();
      await watchUpstreams();
      return { changed, files: [...taken, ...(await files.look())], restart: left };
    },
  };
}

/** What observes, and the clock. */
function createParts({
  log,
  lostLines = () => 0,
  eventLoop,
  now = Date.now,
  audit,
}: SiteOptions & Pick<Parts, 'audit'>): Parts {
  const metrics = new Metrics();
  metrics.watchCount('log_lines_lost_total', 'Lines of the log that could not be written.', lostLines);
  if (eventLoop) {
    const help = 'How often the event loop was held for longer than 200 ms.';
    metrics.watchCount('event_loop_stalls_total', help, () => eventLoop.reading().stalls);
  }
  const health = new Health({ now });
  const files = new WatchedFiles({ log });
  health.watch(() => files.conditions(now()));
  metrics.watchCertificates(() => files.certificates());
  return { log, metrics, audit, health, files, now };
}

/** Lets other replicas know of this one, now that they can reach it. */
function joinReplicas(
  others: LiveReplicas,
  { cache, listener, log, now }: Parts & { readonly cache: Cache; readonly listener: ClientListener },
): AsyncDisposable {
  const { coordinator } = others.replicas;
  const owned = new AsyncDisposableStack();
  const changes = owned.use(new SharedChanges({ cache, coordinator, log }));
  others.join(listener.peerAddress, changes.takeUp());
  owned.use(new Holdings({ coordinator, catalog: cache.catalog, now }));
  return owned;
}
