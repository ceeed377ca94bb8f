import type { MillpondEvent } from '../events/event.ts';
import type { Condition } from '../http/operator-routes.ts';
import type { MirrorObserver } from '../mirror/mirror.ts';
import type { EvictionObserver, EvictionReason, Evictor } from '../store/eviction/evictor.ts';
import { DiskFault } from '../store/files/blob-store.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { described } from './observers.ts';

/** Turns what is evicted into log lines and numbers. */
export function evictionObserver({
  log,
  metrics,
  observer,
  onEvent,
}: {
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly observer: Pick<MirrorObserver, 'diskFault'>;
  readonly onEvent: ((event: MillpondEvent) => void) | undefined;
}): EvictionObserver {
  return {
    evicted(digest, { reason, bytes, repositories }) {
      for (const repository of repositories) onEvent?.({ kind: 'evicted', repository, digest, reason });
      metrics.evictions.inc({ reason });
      metrics.evictedBytes.inc({ reason }, bytes);
      log.debug({ digest, bytes, reason }, 'blob evicted');
    },
    ended({ reason, blobs, bytes, durationMs }) {
      metrics.evictionDurations.observe(durationMs / 1000);
      log.info({ reason, blobs, bytes, ms: Math.round(durationMs) }, 'blobs evicted');
    },
    failed(error) {
      if (error instanceof DiskFault) observer.diskFault(error);
      else log.error({ error: described(error) }, 'unexpected error while evicting');
    },
  };
}

const excesses: Readonly<Record<EvictionReason, string>> = {
  size: 'the cache is larger than cache.maxSize',
  free: 'less is free in the file system of the cache than cache.minFree',
  full: 'the file system of the cache is full',
};

/** A sentence where the cache should be smaller and cannot be made so. */
export function cacheConditions({ evictor, offline }: { evictor: Evictor; offline: boolean }): Condition[] {
  const { excess } = evictor;
  if (excess === undefined) return [];
  const why = offline ? 'offline nothing is evicted' : 'all that is left is pinned or in use';
  return [{ code: 'cache-full', text: `${excesses[excess]}, and ${why}` }];
}
