import type { Config } from '../config/config.ts';
import type { Readiness } from '../http/operator-routes.ts';
import type { FillProgress } from '../mirror/fill/fills.ts';
import type { Catalog } from '../store/catalog/catalog.ts';
import { fileSystemOf } from '../store/files/file-system.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { isAvailable, type Upstream, type UpstreamStatus } from '../upstream/upstream.ts';
import type { CertificateStatus } from './certificates.ts';
import type { EventLoopReading } from './event-loop.ts';
import type { HostedStatus } from './hosted.ts';
import type { PrefetchStatus } from './prefetcher.ts';

import type { ReplicasStatus } from './replicas.ts';
import type { WallsStatus } from './walls.ts';

/** Answers counted for a share of hits: those that came from disk, and those that did not. */
const hitResults: ReadonlySet<string> = new Set(['hit', 'revalidated', 'revalidating', 'stale']);
const missResults: ReadonlySet<string> = new Set(['miss', 'peer', 'collapsed', 'bypass']);

/** The traffic of the mirror since it was started. */
export interface Traffic {
  /** Manifests and blobs answered from disk. */
  readonly hits: number;
  /** Manifests and blobs that an upstream was needed for. */
  readonly misses: number;
  readonly bytesFromUpstream: number;
  readonly bytesToClients: number;
}

/** A running mirror; the members and their names are kept from version to version. Times in ISO 8601, sizes in bytes. */
export interface SiteStatus {
  readonly version: string;
  readonly pid: number;
  readonly address: string;
  readonly startedAt: string;
  readonly uptimeSeconds: number;
  readonly offline: boolean;
  readonly readiness: Readiness & {
    /** The texts of the conditions. */
    readonly reasons: readonly string[];
  };
  readonly traffic: Traffic & {
    /** Share of answers that came from disk, 0 to 1; `null` before the first. */
    readonly hitRatio: number | null;
    /** Sent to clients without having been fetched for them. */
    readonly bytesSaved: number;
    /** Share of the bytes sent that were not fetched, 0 to 1; `null` before the first. */
    readonly byteHitRatio: number | null;
  };
  readonly upstreams: readonly (Traffic & {
    readonly name: string;
    readonly available: boolean;
    readonly sparing: boolean;
    readonly status: UpstreamStatus;
  })[];
  readonly load: WallsStatus;
  /** How late the event loop has been since the start; `null` where nothing watches it. */
  readonly eventLoop: EventLoopReading | null;
  readonly fills: readonly FillProgress[];
  /** `null`: one process alone. */
  readonly replicas: ReplicasStatus | null;
  /** Hosted repositories; `null`: there are none. */
  readonly hosted: HostedStatus | null;
  /** Those that the configuration names by file. */
  readonly certificates: readonly { readonly key: string; readonly file: string; readonly expiresAt: string }[];
  /** The schedules of `prefetch`, in the order written. */
  readonly prefetch: readonly PrefetchStatus[];
  readonly cache: {
    readonly dir: string;
    readonly blobs: number;
    readonly usedBytes: number;
    readonly maxBytes: number;
    /** Bytes that pins hold. */
    readonly pinnedBytes: number;
    /** Of blobs that no image needs; they are evicted first. */
    readonly unneededBytes: number;
    /** Free space of the file system; `null` if unknown. */
    readonly freeBytes: number | null;
  };
}

export interface SiteStatusOptions {
  readonly config: Config;
  readonly version: string;
  readonly address: string;
  readonly startedAtMs: number;
  readonly now: () => number;
  readonly readiness: () => Readiness;
  readonly load: () => WallsStatus;
  readonly upstreams: readonly Upstream[];
  readonly metrics: Metrics;
  readonly replicas: () => ReplicasStatus | null;
  readonly fills: { progress(): FillProgress[] };
  readonly catalog: Catalog;
  readonly hosted: () => Promise<HostedStatus | null>;
  readonly certificates: () => readonly CertificateStatus[];
  readonly eventLoop: () => EventLoopReading | null;
  readonly prefetches: () => readonly PrefetchStatus[];
}

/** Looks at everything once. */
export async function siteStatus(options: SiteStatusOptions): Promise<SiteStatus> {
  const { config, metrics, upstreams, startedAtMs, now } = options;
  const traffic = await readTraffic(metrics);
  const total = { ...noTraffic };
  for (const part of traffic.values()) for (const key of trafficKeys) total[key] += part[key];
  // Where nothing was fetched and nothing was here, what was sent are refusals.
  const isIdle = total.hits === 0 && total.bytesFromUpstream === 0;
  const bytesSaved = isIdle ? 0 : Math.max(0, total.bytesToClients - total.bytesFromUpstream);
  const fileSystem = await fileSystemOf(config.cache.dir);
  const { blobs, bytes, pinnedBytes, unneededBytes } = options.catalog.blobs.usage();
  const readiness = options.readiness();
  return {
    version: options.version,
    pid: process.pid,
    address: options.address,
    startedAt: new Date(startedAtMs).toISOString(),
    uptimeSeconds: Math.floor((now() - startedAtMs) / 1000),
    offline: config.offline,
    readiness: { ...readiness, reasons: readiness.conditions.map(({ text }) => text) },
    traffic: {
      ...total,
      hitRatio: ratio(total.hits, total.hits + total.misses),
      bytesSaved,
      byteHitRatio: ratio(bytesSaved, total.bytesToClients),
    },
    upstreams: upstreams.map((upstream) => {
      const status = upstream.status();
      const { name, isSparing: sparing } = upstream;
      return { name, available: isAvailable(status), sparing, ...(traffic.get(name) ?? noTraffic), status };
    }),
    load: options.load(),
    eventLoop: options.eventLoop(),
    fills: options.fills.progress(),
    replicas: options.replicas(),
    hosted: await options.hosted(),
    certificates: options.certificates().map(({ key, file, untilMs }) => ({
      key,
      file,
      expiresAt: new Date(untilMs).toISOString(),
    })),
    prefetch: options.prefetches(),
    cache: {
      dir: config.cache.dir,
      blobs,
      usedBytes: bytes,
      maxBytes: config.cache.maxSizeBytes,
      pinnedBytes,
      unneededBytes,
      freeBytes: fileSystem?.freeBytes ?? null,
    },
  };
}

const noTraffic: Traffic = { hits: 0, misses: 0, bytesFromUpstream: 0, bytesToClients: 0 };
const trafficKeys = Object.keys(noTraffic) as (keyof Traffic)[];

/** The counts by upstream. */
async function readTraffic({ requests, clientBytes, upstreamBytes }: Metrics): Promise<Map<string, Traffic>> {
  const found = new Map<string, Record<keyof Traffic, number>>();
  const of = (labels: Partial<Record<string, string | number>>): Record<keyof Traffic, number> => {
    const upstream = String(labels['upstream']);
    const traffic = found.get(upstream) ?? { ...noTraffic };
    found.set(upstream, traffic);
    return traffic;
  };
  for (const { labels, value } of (await requests.get()).values) {
    if (labels['kind'] !== 'manifest' && labels['kind'] !== 'blob') continue;
    if (hitResults.has(String(labels['result']))) of(labels).hits += value;
    if (missResults.has(String(labels['result']))) of(labels).misses += value;
  }
  for (const { labels, value } of (await clientBytes.get()).values) of(labels).bytesToClients += value;
  for (const { labels, value } of (await upstreamBytes.get()).values) of(labels).bytesFromUpstream += value;
  return found;
}

function ratio(part: number, whole: number): number | null {
  return whole === 0 ? null : Math.round((part / whole) * 10_000) / 10_000;
}
