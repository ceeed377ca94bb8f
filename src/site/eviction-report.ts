import type { MillpondEvent } from '../events/event.ts';
import type { Condition } from '../http/operator-routes.ts';
import type { MirrorEvent } from '../mirror/parts.ts';
import type { Report } from '../oci/report.ts';
import type { EvictionEvent, EvictionReason, Evictor } from '../store/eviction/evictor.ts';
import { DiskFault } from '../store/files/blob-store.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { described } from './described.ts';

/** Turns what is evicted into log lines and metrics. */
export function evictionReport({
  log,
  metrics,
  report,
  onEvent,
}: {
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly report: Report<MirrorEvent>;
  readonly onEvent: ((event: MillpondEvent) => void) | undefined;
}): Report<EvictionEvent> {
  return (event) => {
    switch (event.kind) {
      case 'evicted': {
        const { digest, reason, bytes, repositories } = event;
        for (const repository of repositories) onEvent?.({ kind: 'evicted', repository, digest, reason });
        metrics.evictions.inc({ reason });
        metrics.evictedBytes.inc({ reason }, bytes);
        log.debug({ digest, bytes, reason }, 'blob evicted');
        break;
      }
      case 'ended': {
        const { reason, blobs, bytes, durationMs } = event;
        metrics.evictionDurations.observe(durationMs / 1000);
        log.info({ reason, blobs, bytes, ms: Math.round(durationMs) }, 'blobs evicted');
        break;
      }
      case 'failed':
        if (event.error instanceof DiskFault) report({ kind: 'disk-fault', error: event.error });
        else log.error({ error: described(event.error) }, 'unexpected error while evicting');
        break;
      default:
        event satisfies never;
    }
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
