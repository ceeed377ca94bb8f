import { resolve } from 'node:path';
import type { ClusterConfig, Config, PrefetchConfig, RedisConfig, ServerTlsConfig, UpstreamConfig } from './config.ts';
import type { Origins } from './origins.ts';
import { emptyUpstream, type ParsedConfig } from './schema.ts';
import type { SchemaProblem } from './schema-node.ts';
import { defaultUpstreamNames, resolveUpstreams } from './upstream-table.ts';

/** Where relative paths count from. */
export interface ResolveOptions {
  /** For paths written in the file. */
  readonly folder: string;
  /** For all others. */
  readonly workingDirectory: string;
  readonly origins: Origins;
}

/** Turns checked settings into what the program uses, looking at what must fit together. */
export function resolveConfig(
  parsed: ParsedConfig,
  options: ResolveOptions,
): { config: Config; problems: readonly SchemaProblem[] } {
  const { folder, workingDirectory, origins } = options;
  const problems: SchemaProblem[] = [];
  const table = new Map(
    parsed.upstreams === undefined
      ? defaultUpstreamNames.map((name) => [name, emptyUpstream()])
      : Object.entries(parsed.upstreams),
  );
  const upstreams = resolveUpstreams(table, parsed, { folder, problems });
  const { cache, timeouts } = parsed;
  const cacheFolder = origins.of(['cache', 'dir']).kind === 'file' ? folder : workingDirectory;
  const config: Config = {
    listen: parsed.listen,
    tls: parsed.tls && resolveServerTls(parsed.tls, folder),
    defaultUpstream: resolveDefaultUpstream(parsed.defaultUpstream, upstreams, problems),
    cache: {
      dir: resolve(cacheFolder, cache.dir),
      maxSizeBytes: cache.maxSize,
      minFreeBytes: cache.minFree,
      maxManifestSizeBytes: cache.maxManifestSize,
      memoryBytes: cache.memory,
      maxFills: cache.maxFills,
      scrubEveryMs: cache.scrub.every,
      scrubBytesPerSecond: cache.scrub.rate,
      pins: cache.pins,
      tagTtlMs: cache.tagTtl,
      staleWhileRevalidateMs: cache.staleWhileRevalidate,
      staleIfErrorMs: cache.staleIfError,
      negativeTtlMs: cache.negativeTtl,
    },
    offline: parsed.offline,
    upstreams,
    timeouts: {
      connectMs: timeouts.connect,
      headersMs: timeouts.headers,
      idleMs: timeouts.idle,
      answerMs: timeouts.answer,
      drainMs: timeouts.drain,
      clientIdleMs: timeouts.clientIdle,
    },
    log: parsed.log,
    prefetch: parsed.prefetch.flatMap((entry, index) => resolvePrefetch(entry, index, { folder, problems })),
    redis: parsed.redis && resolveRedis(parsed.redis, folder),
    cluster: resolveCluster(parsed, { folder, problems }),
  };
  return { config, problems };
}

/** @returns nothing where the entry has problems */
function resolvePrefetch(
  entry: ParsedConfig['prefetch'][number],
  index: number,
  { folder, problems }: { folder: string; problems: SchemaProblem[] },
): PrefetchConfig[] {
  const { schedule, every, images = [], file, platforms, referrers } = entry;
  const refuse = (message: string): never[] => {
    problems.push({ kind: 'refused', path: ['prefetch', index], message });
    return [];
  };
  if ((schedule === undefined) === (every === undefined)) return refuse('accepted: exactly one of schedule, every');
  if (images.length === 0 && file === undefined) return refuse('names no image; accepted: images, file, or both');
  return [
    {
      schedule: schedule === undefined ? { kind: 'every', everyMs: every! } : { kind: 'cron', expression: schedule },
      images,
      file: file === undefined ? undefined : resolve(folder, file),
      platforms,
      referrers,
    },
  ];
}

function resolveRedis(redis: NonNullable<ParsedConfig['redis']>, folder: string): RedisConfig {
  const { url, sentinelUsername, keyPrefix } = redis;
  const place = (file: string | undefined) => (file === undefined ? undefined : resolve(folder, file));
  return {
    location: url,
    passwordFile: place(redis.passwordFile),
    sentinelUsername,
    sentinelPasswordFile: place(redis.sentinelPasswordFile),
    caFile: place(redis.caFile),
    keyPrefix,
  };
}

function resolveCluster(
  { redis, cluster, listen }: ParsedConfig,
  { folder, problems }: { folder: string; problems: SchemaProblem[] },
): ClusterConfig {
  const { advertise, secretFile, placement, copies, clockTolerance } = cluster;
  const refuse = (key: string, message: string): void => {
    problems.push({ kind: 'refused', path: ['cluster', key], message });
  };
  if (redis && secretFile === undefined) {
    refuse('secretFile', 'is missing: with redis the replicas need a secret of their own, in the same file for all');
  }
  const isEveryAddress = listen.host === undefined || listen.host === '0.0.0.0' || listen.host === '::';
  if (redis && advertise === undefined && isEveryAddress) {
    refuse('advertise', 'is missing: with redis and a listener on every address, the others have to be told one');
  }
  return {
    advertise,
    secretFile: secretFile === undefined ? undefined : resolve(folder, secretFile),
    placement,
    copies,
    clockToleranceMs: clockTolerance,
  };
}

function resolveServerTls(tls: NonNullable<ParsedConfig['tls']>, folder: string): ServerTlsConfig {
  return {
    certFile: resolve(folder, tls.certFile),
    keyFile: resolve(folder, tls.keyFile),
    clientCaFile: tls.clientCaFile === undefined ? undefined : resolve(folder, tls.clientCaFile),
  };
}

function resolveDefaultUpstream(
  written: string | null | undefined,
  upstreams: readonly UpstreamConfig[],
  problems: SchemaProblem[],
): string | undefined {
  if (written === null) return undefined;
  const wanted = written ?? 'docker.io';
  const found = upstreams.find((upstream) => upstream.name === wanted || upstream.aliases.includes(wanted));
  if (found === undefined && written !== undefined) {
    const names = upstreams.map((upstream) => upstream.name).join(', ');
    problems.push({
      kind: 'refused',
      path: ['defaultUpstream'],
      message: `"${written}" is not in the table of upstreams; accepted: null, or one of ${names}`,
    });
  }
  return found?.name;
}
