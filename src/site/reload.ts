import { isDeepStrictEqual } from 'node:util';
import type { Config } from '../config/config.ts';

/** What of a configuration is only read at the start. */
function fixedParts({ listen, tls, cache, offline, log, redis, cluster }: Config): Readonly<Record<string, unknown>> {
  const { dir, memoryBytes } = cache;
  return {
    listen,
    tls,
    'cache.dir': dir,
    'cache.memory': memoryBytes,
    offline,
    'log.format': log.format,
    // A secret does not take part in a comparison of its text.
    redis: redis && { ...redis, password: redis.location.password?.reveal() },
    cluster,
  };
}

/** The keys in which a new configuration differs from the running one and that need a restart. */
export function needRestart(running: Config, wanted: Config): string[] {
  const parts = fixedParts(running);
  const others = fixedParts(wanted);
  return Object.keys(parts).filter((key) => !isDeepStrictEqual(parts[key], others[key]));
}

/** The new configuration with what needs a restart left as it is. */
export function withoutFixedParts(running: Config, wanted: Config): Config {
  const { listen, tls, offline, redis, cluster } = running;
  const { dir, memoryBytes } = running.cache;
  return {
    ...wanted,
    listen,
    tls,
    offline,
    redis,
    cluster,
    cache: { ...wanted.cache, dir, memoryBytes },
    log: { ...wanted.log, format: running.log.format },
  };
}
