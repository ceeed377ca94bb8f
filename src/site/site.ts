import { readFile } from 'node:fs/promises';
import type { Config } from '../config/config.ts';
import { withoutRestart } from '../config/restart.ts';
import { createApp } from '../http/app.ts';
import { type ListenOptions, listen } from '../http/server.ts';
import { Holdings } from '../mirror/sharing/holdings.ts';
import type { Slabs } from '../mirror/slabs.ts';
import { operationsOf } from '../operations/owner/operations.ts';
import { type Logger, Metrics, type RequestLog } from '../telemetry.ts';
import { openCache } from './cache.ts';
import { openControl } from './control.ts';
import { Health } from './health.ts';
import { described, requestObserver } from './observers.ts';
import { Prefetcher } from './prefetcher.ts';
import { openReplicas } from './replicas.ts';
import { startScrub } from './scrub.ts';
import { SharedChanges } from './shared-changes.ts';
import { credentialsOf } from './upstream-options.ts';
import { readVersion } from './version.ts';

/** A running mirror. */
export interface Site {
  /** `host:port` it listens on. */
  readonly address: string;
  /** Closes the listener at once, lets transfers end within the configured time, gives everything back. */
  stop(): Promise<void>;
  /**
   * Puts another configuration in force for requests that come from now on; those under way end with what they began.
   * @returns the keys that differ and need a restart: they stay as they were
   * @throws Error where an upstream cannot be made of it; nothing has changed then
   */
  reload(config: Config): readonly string[];
}

export interface SiteOptions {
  readonly log: Logger;
  /** Default: `log` itself. */
  readonly requestLog?: RequestLog | undefined;
  /** How many lines the log has lost so far. Default: none. */
  readonly lostLines?: () => number;
  /** The memory that blobs pass through; absent: some of its own. */
  readonly slabs?: Slabs | undefined;
  /** Wall clock in milliseconds. */
  readonly now?: () => number;
  /** Longest wait for an answer of Redis, in milliseconds; absent: the one that users have. */
  readonly redisDeadlineMs?: number | undefined;
}

/**
 * Puts a mirror together from its configuration and starts it: the one place that knows all the parts.
 * @throws Error in one sentence when the directory or the address cannot be had
 */
export async function startSite(started: Config, options: SiteOptions): Promise<Site> {
  const { log, lostLines = () => 0, slabs, redisDeadlineMs, now = Date.now } = options;
  const requestLog: RequestLog = options.requestLog ?? ((level, fields) => log[level](fields, 'request'));
  await using owned = new AsyncDisposableStack();
  const metrics = new Metrics();
  metrics.watchLog(lostLines);
  const health = new Health({ now });
  const others = await openReplicas(started, { log, metrics, health, now, redisDeadlineMs });
  if (others) owned.use(others);
  const cache = owned.use(
    await openCache(started, { command: 'serve', log, metrics, health, now, slabs, replicas: others?.replicas }),
  );
  const { mirror, catalog, store, upstreams } = cache;
  const app = createApp({
    get upstreams() {
      return upstreams.table;
    },
    mirror,
    observer: requestObserver({ log: requestLog, metrics }),
    get answerMs() {
      return cache.config.timeouts.answerMs;
    },
    get clientIdleMs() {
      return cache.config.timeouts.clientIdleMs;
    },
    peers: others?.routes,
    operator: { readiness: () => health.readiness(), metrics },
    onError: (error) => log.error({ error: described(error) }, 'unexpected error'),
  });
  const answer = app.callback();
  const version = await readVersion();
  // Koa answers its own failures: this promise never rejects.
  const listener = await listen((request, response) => void answer(request, response), await listenOptions(started));
  if (others) {
    const { coordinator } = others.replicas;
    const changes = owned.use(new SharedChanges({ cache, coordinator, log }));
    others.join(listener.address, changes.takeUp());
    owned.use(new Holdings({ coordinator, catalog, now }));
  }
  const prefetcher = owned.use(new Prefetcher({ cache, log, metrics, now }));
  const scrub = owned.use(startScrub(cache, { log, metrics }));
  const control = await openControl({
    get config() {
      return cache.config;
    },
    get upstreams() {
      return upstreams.all;
    },
    get explanation() {
      const { config } = cache;
      const { table } = upstreams;
      return { upstreams: table, store, catalog, offline: config.offline, now, credential: credentialsOf(config) };
    },
    version,
    address: listener.address,
    startedAtMs: now(),
    now,
    readiness: () => health.readiness(),
    metrics,
    downloads: mirror.downloads,
    catalog,
    replicas: () => others?.status() ?? null,
    prefetches: () => prefetcher.status(),
    operations: operationsOf(cache),
    log,
  });
  if (control) owned.use(control);
  const rest = owned.move();
  return {
    address: listener.address,
    async stop() {
      health.drain();
      await Promise.all([listener.close(cache.config.timeouts.drainMs), prefetcher[Symbol.asyncDispose]()]);
      await rest.disposeAsync();
    },
    reload(wanted) {
      const { config, left } = withoutRestart(cache.config, wanted);
      cache.replaceConfig(config);
      prefetcher.replace(cache.config);
      scrub.look();
      log.level = cache.config.log.level;
      return left;
    },
  };
}

async function listenOptions({ listen: { host, port }, tls }: Config): Promise<ListenOptions> {
  if (!tls) return { host, port };
  const [cert, key, ca] = await Promise.all([
    readFile(tls.certFile, 'utf8'),
    readFile(tls.keyFile, 'utf8'),
    tls.clientCaFile === undefined ? undefined : readFile(tls.clientCaFile, 'utf8'),
  ]);
  return { host, port, tls: { cert, key, ca } };
}
