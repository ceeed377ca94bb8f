import type { Config } from '../config/config.ts';
import type { Search } from '../discovery/search/search.ts';
import { Generations } from '../front/generations.ts';
import type { HostedChange } from '../hosted/changes.ts';
import type { HostedOwner } from '../http/hosted-owner.ts';
import type { Slabs } from '../memory/slabs.ts';
import type { Report } from '../oci/report.ts';
import type { Operations } from '../operations/protocol/operations.ts';
import { Holdings } from '../replicas/holdings.ts';
import { AuditLog } from '../telemetry/audit.ts';
import type { Logger, RequestLog } from '../telemetry/logger.ts';
import { openAccess } from './access.ts';
import { type Cache, openCache } from './cache.ts';
import { changeReport } from './content-events.ts';
import type { EventLoop } from './event-loop.ts';
import { EarlyEvents, openEvents } from './events.ts';
import type { Hosted } from './hosted.ts';
import { hostedRules } from './hosted-rules.ts';
import { lazyOperations } from './lazy-operations.ts';
import { type ClientListener, type ListenerParts, openListener } from './open-listener.ts';
import { createParts, type Parts } from './parts.ts';
import { Prefetcher } from './prefetcher.ts';
import { searchAtReplica } from './replica-search.ts';
import type { LiveReplicas } from './replicas.ts';
import { runningSite, type Site, watchUpstreamFiles } from './running-site.ts';
import { startScrub } from './scrub.ts';
import { openSearch } from './search.ts';
import { type LiveServerTls, openTls, type Tls } from './server-tls.ts';
import { SharedChanges } from './shared-changes.ts';
import { openShortWay } from './short-way.ts';
import { openSiteControl } from './site-control.ts';
import { Walls } from './walls.ts';

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
 * Puts a mirror together from its configuration and starts it: the one place that knows all the parts. What is opened first
 * is given back last.
 * @throws Error in one sentence when the directory or the address cannot be had
 */
export async function startSite(started: Config, options: SiteOptions): Promise<Site> {
  await using owned = new AsyncDisposableStack();
  // What is in force now; before the cache is open, what the mirror was started with.
  let cache: Cache | undefined;
  const config = () => cache?.config ?? started;

  // What observes.
  const audit = owned.use(new AuditLog({ log: options.log, file: started.log.auditFile }));
  const parts = createParts({ ...options, audit: audit.write });

  // The other replicas.
  const tls = await openTls(started, parts);
  const others = await openOthers(started, { ...parts, redisDeadlineMs: options.redisDeadlineMs, tls: tls.peers });
  if (others) owned.use(others);
  const owner = await openOwner(started, { others, config, log: parts.log });

  // What is stored, and what happens to it.
  const walls = new Walls({ config, ...parts });
  const generations = new Generations();
  const early = new EarlyEvents();
  cache = owned.use(
    await openCache(started, {
      ...parts,
      command: 'serve',
      slabs: options.slabs,
      memory: walls.memory,
      replicas: others?.replicas,
      hostedOwner: owner?.upstream,
      changes: generations,
      onEvent: early.add,
    }),
  );
  cache.mirror.fills.slabs.countIn(walls.memory);
  const events = owned.use(await openEvents(started, { ...parts, config }));
  early.handTo(events);

  // Hosted repositories, search, access, and what operators can have done.
  const { hosted, search } = await openHere(started, { ...parts, cache, owner, config, early, owned });
  const access = owned.use(await openAccess(config, { ...parts, cache, changes: generations }));
  const operations = operationsOf(cache, { ...parts, config, search, hosted, owner });

  // From here on clients and other replicas are answered.
  const serving = { ...parts, walls, others, access, operations, search, hosted, owner, events, generations };
  const { requestLog, keepsAnswers } = options;
  const listener = await openListeners(cache, { ...serving, tls, owned, requestLog, keepsAnswers });

  // What is done in the background, and what commands ask.
  const prefetcher = owned.use(new Prefetcher({ cache, ...parts }));
  const scrub = owned.use(startScrub(cache, parts));
  const control = { ...serving, prefetcher, address: listener.address, eventLoop: options.eventLoop };
  owned.use(await openSiteControl(cache, { ...control, hosted: owner ?? hosted }));
  await watchUpstreamFiles({ ...parts, cache, generations });
  owned.use(parts.files).start();

  return runningSite({ ...parts, cache, access, events, listener, prefetcher, scrub, generations, rest: owned.move() });
}

/** The other replicas. A mirror by itself does not load the client of Redis, nor what replicas say to each other. */
async function openOthers(
  started: Config,
  { tls, ...parts }: Parts & Pick<SiteOptions, 'redisDeadlineMs'> & { readonly tls: LiveServerTls | undefined },
): Promise<LiveReplicas | undefined> {
  if (!started.redis) return undefined;
  const { openReplicas } = await import('./replicas.ts');
  return await openReplicas(started, { ...parts, tls: tls?.current });
}

/** The replica that keeps the hosted repositories, where that is another one. */
async function openOwner(
  started: Config,
  parts: Pick<Parts, 'log'> & { readonly others: LiveReplicas | undefined; readonly config: () => Config },
) {
  if (started.hosted?.owner === undefined) return undefined;
  const { openHostedOwner } = await import('./hosted-owner.ts');
  return openHostedOwner(started, parts);
}

/** The hosted repositories that this replica keeps, and the index of everything that is here. */
async function openHere(
  started: Config,
  parts: Parts & {
    readonly cache: Cache;
    readonly owner: unknown;
    readonly config: () => Config;
    readonly early: EarlyEvents;
    readonly owned: AsyncDisposableStack;
  },
): Promise<{ readonly hosted: Hosted | undefined; readonly search: Search }> {
  const { cache, early, owned } = parts;
  const observe = changeReport(early.add, cache.holds);
  const hosted = await openOwnHosted(started, parts, (change) => {
    observe(change);
    search.hostedChanged(change);
  });
  if (hosted) owned.use(hosted);
  const search = owned.use(openSearch(cache, { ...parts, hosted: hosted?.registry }));
  search.start();
  return { hosted, search };
}

/** The hosted repositories, where this replica keeps them. A mirror without any does not load what takes pushes. */
async function openOwnHosted(
  started: Config,
  { owner, config, ...parts }: Parts & { readonly owner: unknown; readonly config: () => Config },
  report: Report<HostedChange>,
) {
  if (!started.hosted || owner !== undefined) return undefined;
  const { openHosted } = await import('./hosted.ts');
  return openHosted(config, { ...parts, report });
}

/** The operations of operators. Their code is loaded with the first one that is asked for. */
function operationsOf(
  cache: Cache,
  parts: Pick<Parts, 'now'> & {
    readonly config: () => Config;
    readonly search: Search;
    readonly hosted: Hosted | undefined;
    readonly owner: HostedOwner | undefined;
  },
): Operations {
  const { config, search, owner, now } = parts;
  const hosted = { registry: parts.hosted?.registry, rules: hostedRules(config) };
  const operations = lazyOperations(async () => {
    const loaded = await import('../operations/owner/operations.ts');
    return loaded.operationsOf(cache, { search, hosted });
  });
  if (!owner) return operations;
  return {
    ...operations,
    search: (asked, { signal }) => searchAtReplica(search, asked, { owner, signal, now }),
  };
}

/** Answers clients, and lets other replicas know that they can reach this one. */
async function openListeners(
  cache: Cache,
  {
    owned,
    tls,
    requestLog,
    keepsAnswers = true,
    ...parts
  }: Omit<ListenerParts, 'tls' | 'peersTls' | 'requestLog' | 'short' | 'signatures'> &
    Pick<SiteOptions, 'requestLog' | 'keepsAnswers'> & {
      readonly tls: Tls;
      readonly owned: AsyncDisposableStack;
    },
): Promise<ClientListener> {
  const { generations, walls, others, log } = parts;
  const writesRequests: RequestLog = requestLog ?? ((level, fields) => log[level](fields, 'request'));
  const short = keepsAnswers
    ? openShortWay(cache, { ...parts, generations, admission: walls.admission, log: writesRequests })
    : undefined;
  if (short) owned.use(short);
  const listener = await openListener(cache, {
    ...parts,
    tls: tls.clients,
    peersTls: tls.peers,
    requestLog: writesRequests,
    short,
    signatures: cache.signatures.gate,
  });
  if (others) owned.use(joinReplicas(others, { ...parts, cache, listener }));
  return listener;
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
