import type Koa from 'koa';
import { ImageDetails } from '../discovery/image-details.ts';
import { RepositoryList } from '../discovery/repository-list.ts';
import type { Search } from '../discovery/search/search.ts';
import type { AdministrationRoutesOptions } from '../http/administration-routes.ts';
import { createApp } from '../http/app.ts';
import type { HostedOwner } from '../http/hosted-owner.ts';
import type { EndedExchange } from '../http/middleware.ts';
import type { Report } from '../oci/report.ts';
import type { Operations } from '../operations/protocol/operations.ts';
import type { RequestLog } from '../telemetry/logger.ts';
import { findRepository } from '../upstream/repository.ts';
import type { LiveAccess } from './access.ts';
import type { Cache } from './cache.ts';
import { described } from './described.ts';
import type { LiveEvents } from './events.ts';
import type { Hosted } from './hosted.ts';
import { LastFailures } from './last-failures.ts';
import type { Parts } from './parts.ts';
import { readyAnswers } from './ready-answers.ts';
import type { LiveReplicas } from './replicas.ts';
import { requestReport } from './request-report.ts';
import { countPulls } from './search.ts';
import type { OwnShortWay } from './short-way.ts';
import type { MirrorSignatures } from './signatures.ts';
import type { Walls } from './walls.ts';

/** The parts that answer requests of clients. */
export interface ClientAppParts extends Parts {
  readonly walls: Walls;
  readonly others: LiveReplicas | undefined;
  readonly hosted: Hosted | undefined;
  readonly owner: HostedOwner | undefined;
  readonly access: LiveAccess;
  readonly events: LiveEvents;
  readonly search: Search;
  readonly operations: Operations;
  readonly requestLog: RequestLog;
  readonly short: OwnShortWay | undefined;
  readonly signatures: MirrorSignatures;
}

/** The application that answers clients. What the configuration says is read for each request: it may be replaced meanwhile. */
export function clientApp(cache: Cache, parts: ClientAppParts): Koa {
  const { log, metrics, health, now, walls, others, hosted, access, events, search, short } = parts;
  const { mirror, catalog, upstreams } = cache;
  const { listeners } = cache.config;
  const registry = hosted?.registry;
  if (short) short.decide = readyAnswers(cache, { ...parts, keeper: short.keeper });
  return createApp({
    // What is asked for, and where it comes from.
    get upstreams() {
      return upstreams.table;
    },
    mirror,
    chain: upstreams.chain,
    hosted: registry,
    owner: parts.owner,
    peers: others?.routes,

    // Who may ask, and how much of it at a time.
    access: access.control,
    guests: access.guests,
    admission: walls.admission,
    get answerMs() {
      return cache.config.timeouts.answerMs;
    },
    get clientIdleMs() {
      return cache.config.timeouts.clientIdleMs;
    },

    // What is looked for, and what is held back.
    repositories: new RepositoryList({
      catalog,
      hosted: registry,
      isReachable: (key) => findRepository(upstreams.table, key) !== undefined,
    }),
    search,
    images: new ImageDetails({ catalog, layout: cache.layout, hosted: registry, search }),
    events,
    holds: cache.holds,
    decisions: cache.decisions,
    signatures: parts.signatures,

    // What operators see and have done.
    operator: {
      readiness: () => health.readiness(),
      metrics,
      access: access.control,
      isMetricsElsewhere: listeners.metrics !== undefined,
    },
    administration: administrationOf(cache, parts),

    // How answers leave, and what learns of them.
    keeper: short?.keeper,
    handsFilesOver: () => cache.config.serve.sendfile === 'nginx',
    report: exchangeReport(cache, parts),
    onError: (error) => log.error({ error: described(error) }, 'unexpected error'),
    now,
  });
}

/** The administration routes for clients. With a listener of their own they are not offered here. */
function administrationOf(
  { config, mirror, upstreams }: Cache,
  { access, others, events, operations, audit }: ClientAppParts,
): AdministrationRoutesOptions {
  const { administration } = config.listeners;
  return {
    operations,
    fills: () => mirror.fills.progress(),
    replicas: () => others?.status() ?? null,
    get upstreams() {
      return upstreams.table;
    },
    isOffered: () => access.control.settings !== undefined && administration === undefined,
    onAsked: (fields) => audit('operation requested', fields),
    ending: events.ending,
  };
}

/** The log, the metrics, readiness and the count of pulls learn of each answer. */
function exchangeReport(
  cache: Cache,
  { metrics, health, now, search, requestLog }: ClientAppParts,
): Report<EndedExchange> {
  const failures = new LastFailures({ now });
  health.watch(() => failures.conditions(cache.upstreams.all));
  const report = requestReport({ log: requestLog, metrics });
  const count = countPulls(search);
  return (ended) => {
    failures.note(ended.exchange);
    report(ended);
    count(ended);
  };
}
