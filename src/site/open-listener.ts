import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import Koa from 'koa';
import { ImageDetails } from '../discovery/image-details.ts';
import { RepositoryList } from '../discovery/repository-list.ts';
import type { Search } from '../discovery/search/search.ts';
import type { Generations } from '../front/generations.ts';
import { createApp } from '../http/app.ts';
import { type OperatorRoutesOptions, operatorRoutes } from '../http/operator-routes.ts';
import type { HostedOwner } from '../http/owner-routes.ts';
import { isReplicaPath } from '../http/replica-paths.ts';
import { type Guest, type Listener, listen } from '../http/server.ts';
import type { Operations } from '../operations/protocol/operations.ts';
import type { RequestLog } from '../telemetry/logger.ts';
import { findRepository } from '../upstream/repository.ts';
import { type LiveAccess } from './access.ts';
import { type Cache } from './cache.ts';
import { described } from './described.ts';
import type { LiveEvents } from './events.ts';
import { openExtraListener } from './extra-listener.ts';
import { type Hosted } from './hosted.ts';
import { LastFailures } from './last-failures.ts';
import { requestObserver } from './observers.ts';
import { frontThreads, type OpenFronts, openFronts } from './open-fronts.ts';
import type { Parts } from './parts.ts';
import type { LiveReplicas } from './replicas.ts';
import { countPulls } from './search.ts';
import { type LiveServerTls } from './server-tls.ts';
import type { OwnShortWay } from './short-way.ts';
import type { MirrorSignatures } from './signatures.ts';
import { Walls } from './walls.ts';

/** Answers clients from now on. */
export async function openListener(
  cache: Cache,
  {
    log,
    metrics,
    health,
    files,
    ...parts
  }: Parts & {
    readonly walls: Walls;
    readonly others: LiveReplicas | undefined;
    readonly tls: LiveServerTls | undefined;
    /** What replicas show one another; the same where they have no listener of their own. */
    readonly peersTls: LiveServerTls | undefined;
    readonly hosted: Hosted | undefined;
    readonly owner: HostedOwner | undefined;
    readonly access: LiveAccess;
    readonly events: LiveEvents;
    readonly search: Search;
    readonly operations: Operations;
    readonly requestLog: RequestLog;
    readonly short: OwnShortWay | undefined;
    readonly signatures: MirrorSignatures;
    readonly generations: Generations | undefined;
  },
): Promise<ClientListener> {
  const { listeners } = cache.config;
  const { walls, others, tls, peersTls, hosted, owner, access, events, search, now, requestLog, short, generations } =
    parts;
  const { mirror, upstreams } = cache;
  const failures = new LastFailures({ now });
  health.watch(() => failures.conditions(upstreams.all));
  const observe = requestObserver({ log: requestLog, metrics });
  const count = countPulls(search);
  const app = createApp({
    get upstreams() {
      return upstreams.table;
    },
    mirror,
    chain: upstreams.chain,
    observer(ended) {
      failures.note(ended.exchange);
      observe(ended);
      count(ended);
    },
    access: access.control,
    guests: access.guests,
    admission: walls.admission,
    get answerMs() {
      return cache.config.timeouts.answerMs;
    },
    get clientIdleMs() {
      return cache.config.timeouts.clientIdleMs;
    },
    peers: others?.routes,
    hosted: hosted?.registry,
    owner,
    events,
    holds: cache.holds,
    decisions: cache.decisions,
    repositories: new RepositoryList({
      catalog: cache.catalog,
      hosted: hosted?.registry,
      isReachable: (key) => findRepository(upstreams.table, key) !== undefined,
    }),
    search,
    images: new ImageDetails({ catalog: cache.catalog, layout: cache.layout, hosted: hosted?.registry, search }),
    now,
    operator: {
      readiness: () => health.readiness(),
      metrics,
      access: access.control,
      isMetricsElsewhere: listeners.metrics !== undefined,
    },
    onError: (error) => log.error({ error: described(error) }, 'unexpected error'),
    keeper: short?.keeper,
    signatures: parts.signatures,
    administration: {
      operations: parts.operations,
      downloads: () => mirror.downloads.progress(),
      replicas: () => others?.status() ?? null,
      get upstreams() {
        return upstreams.table;
      },
      // What has a listener of its own is served nowhere else.
      isOffered: () => access.control.settings !== undefined && listeners.administration === undefined,
      onAsked: (fields) => parts.audit('operation requested', fields),
      ending: events.ending,
    },
    handsFilesOver: () => cache.config.serve.sendfile === 'nginx',
  });
  const answer = app.callback();
  // Koa answers its own failures: this promise never rejects.
  const handler: RequestListener = (request, response) => {
    if (listeners.peers && isForReplicas(request)) return refuse(response);
    if (short?.way.answer(request, response) !== true) void answer(request, response);
  };
  await using owned = new AsyncDisposableStack();
  const common = { files, log, walls };
  if (listeners.metrics) {
    const operators = operatorApp({ readiness: () => health.readiness(), metrics });
    owned.use(await openExtraListener(operators, { ...listeners.metrics, ...common, place: 'metrics' }));
  }
  const peers =
    listeners.peers &&
    owned.use(
      await openExtraListener(
        (request, response) => (isForReplicas(request) ? void answer(request, response) : refuse(response)),
        { ...listeners.peers, ...common, place: 'peers', takesBodies: hosted !== undefined, live: peersTls },
      ),
    );
  const wanted = short && generations && frontThreads(cache, { log });
  let opened: OpenFronts | undefined;
  const fronts =
    wanted &&
    (async (adopt: (guest: Guest) => void) =>
      (opened = await openFronts(cache, { log, metrics, ...wanted, short, generations, loads: walls.loads, adopt })));
  const listener = await listen(handler, {
    ...cache.config.listen,
    tls: tls?.current,
    way: short?.way,
    fronts,
    takesBodies: (hosted ?? owner) !== undefined,
    admission: walls.admission,
    onMalformed: (kind) => walls.malformed(kind),
  });
  tls?.onRenewed((renewed) => {
    listener.renewTls(renewed);
  });
  peersTls?.onRenewed((renewed) => others?.renewTls(renewed));
  const more = owned.move();
  return {
    ...listener,
    look: () => opened?.look(),
    peerAddress: peers?.address ?? listener.address,
    async close(drainMs) {
      await Promise.all([listener.close(drainMs), more.disposeAsync()]);
    },
  };
}

/** The listener of clients, and those beside it. */
export interface ClientListener extends Listener {
  /** The configuration has changed. */
  look(): void;
  /** Where other replicas are served. */
  readonly peerAddress: string;
}

/** What replicas ask, and what they pass on for their clients: all of it is signed. */
function isForReplicas({ url = '', headers }: IncomingMessage): boolean {
  const [path = ''] = url.split('?', 1);
  return isReplicaPath(path) || path === '/v2/_millpond/replica' || headers['millpond-pass'] !== undefined;
}

function refuse(response: ServerResponse): void {
  response.writeHead(404, { 'Content-Length': '0' }).end();
}

function operatorApp(options: OperatorRoutesOptions): RequestListener {
  const app = new Koa();
  app.use(operatorRoutes(options));
  app.on('error', () => undefined);
  const answer = app.callback();
  return (request, response) => void answer(request, response);
}
