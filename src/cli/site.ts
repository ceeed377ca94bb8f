import { readFile } from 'node:fs/promises';
import type { Config } from '../config/config.ts';
import { createApp } from '../http/app.ts';
import { type ListenOptions, listen } from '../http/server.ts';
import { Mirror } from '../mirror/mirror.ts';
import { Catalog } from '../store/catalog.ts';
import { DiskStore } from '../store/disk-store.ts';
import { layoutOf, prepareLayout } from '../store/layout.ts';
import { sweepIngest } from '../store/sweep.ts';
import { type Logger, Metrics, type RequestLog } from '../telemetry.ts';
import { openControl } from './control.ts';
import { Health } from './health.ts';
import { LiveUpstreams } from './live-upstreams.ts';
import {
  described,
  mirrorObserver,
  requestObserver,
  upstreamConditions,
  upstreamObserver,
  upstreamReadings,
} from './observers.ts';
import { needRestart, withoutFixedParts } from './reload.ts';
import { credentialsOf } from './upstream-options.ts';
import { readVersion } from './version.ts';

/** How often what is only noted in memory is written to the catalog. */
const flushEveryMs = 5_000;

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
  /** Wall clock in milliseconds. */
  readonly now?: () => number;
}

/**
 * Puts a mirror together from its configuration and starts it: the one place that knows all the parts.
 * @throws Error in one sentence when the directory or the address cannot be had
 */
export async function startSite(started: Config, options: SiteOptions): Promise<Site> {
  const { log, now = Date.now } = options;
  const requestLog: RequestLog = options.requestLog ?? ((level, fields) => log[level](fields, 'request'));
  let config = started;
  await using owned = new AsyncDisposableStack();
  const layout = layoutOf(config.cache.dir);
  await prepareLayout(layout);
  const metrics = new Metrics();
  const health = new Health({ now });
  const catalog = owned.use(
    await Catalog.open({
      path: layout.catalog,
      now,
      onFault: (error) => {
        health.fault('the catalog cannot be read or written');
        log.error({ error: described(error) }, 'catalog fault');
      },
    }),
  );
  // The catalog holds the lock of the directory: nobody else writes there.
  const sweptFiles = await sweepIngest(layout, { now });
  if (sweptFiles > 0) log.info({ files: sweptFiles }, 'left-over files removed');
  const upstreams = owned.use(new LiveUpstreams(config, { now, observer: upstreamObserver({ log, metrics }) }));
  health.watch(() => upstreamConditions(upstreams.all));
  metrics.watchUpstreams(() => upstreamReadings(upstreams.all));
  const observer = mirrorObserver({ log, metrics, health });
  const store = new DiskStore({
    layout,
    memoryBytes: config.cache.memoryBytes,
    onAltered: (digest) => observer.altered(digest),
  });
  const mirror = owned.use(
    new Mirror({
      store,
      catalog,
      offline: config.offline,
      limits: {
        get maxFills() {
          return config.cache.maxFills;
        },
      },
      observer,
      now,
    }),
  );
  const flushing = setInterval(() => catalog.flush(), flushEveryMs);
  owned.defer(() => clearInterval(flushing));
  const app = createApp({
    get upstreams() {
      return upstreams.table;
    },
    mirror,
    observer: requestObserver({ log: requestLog, metrics }),
    get answerMs() {
      return config.timeouts.answerMs;
    },
    get clientIdleMs() {
      return config.timeouts.clientIdleMs;
    },
    operator: { readiness: () => health.readiness(), metrics },
    onError: (error) => log.error({ error: described(error) }, 'unexpected error'),
  });
  const answer = app.callback();
  const version = await readVersion();
  // Koa answers its own failures: this promise never rejects.
  const listener = await listen((request, response) => void answer(request, response), await listenOptions(config));
  const control = await openControl({
    get config() {
      return config;
    },
    get upstreams() {
      return upstreams.all;
    },
    get explanation() {
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
    log,
  });
  if (control) owned.use(control);
  const rest = owned.move();
  return {
    address: listener.address,
    async stop() {
      health.drain();
      await listener.close(config.timeouts.drainMs);
      await rest.disposeAsync();
    },
    reload(wanted) {
      const left = needRestart(config, wanted);
      const next = withoutFixedParts(config, wanted);
      upstreams.replace(next);
      config = next;
      log.level = config.log.level;
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
