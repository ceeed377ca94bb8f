import type { LinkEvent } from '../coordination/redis.ts';
import type { ScrubEvent } from '../store/care/scrub.ts';
import type { RebuildEvent } from '../store/catalog/rebuild.ts';
import { described } from './described.ts';
import type { Parts } from './parts.ts';

/** The events of the link to Redis, the rebuild of a catalog, and the scrub. */
export type SiteEvent = LinkEvent | RebuildEvent | ScrubEvent;

/** Turns events into log lines, metrics and readiness. */
export function backgroundReport(parts: Pick<Parts, 'log' | 'metrics' | 'health'>): (event: SiteEvent) => void {
  return (event) => {
    switch (event.kind) {
      case 'redis-lost':
      case 'redis-found':
      case 'redis-refused':
      case 'redis-called':
        reportLink(event, parts);
        return;
      case 'rebuilding':
      case 'rebuilt':
      case 'rebuild-fault':
        reportRebuild(event, parts);
        return;
      case 'scrub-started':
      case 'scrub-read':
      case 'scrub-found':
      case 'scrub-repaired':
      case 'scrub-left':
      case 'scrub-finished':
      case 'scrub-stopped':
      case 'scrub-failed':
        reportScrub(event, parts);
        return;
      default:
        event satisfies never;
    }
  };
}

function reportLink(event: LinkEvent, { log, metrics }: Pick<Parts, 'log' | 'metrics'>): void {
  switch (event.kind) {
    case 'redis-lost':
      log.warn({ reason: event.reason }, 'Redis lost: replicas go on alone');
      return;
    case 'redis-found':
      log.info('Redis found');
      return;
    case 'redis-refused':
      log.warn({ what: event.what, reason: event.reason }, 'Redis refuses its user what replicas need');
      return;
    case 'redis-called': {
      const { script, result, seconds } = event;
      metrics.redisCalls.inc({ script, result });
      if (result !== 'skipped') metrics.redisSeconds.observe({ script }, seconds);
      return;
    }
    default:
      event satisfies never;
  }
}

function reportRebuild(event: RebuildEvent, { log, metrics, health }: Pick<Parts, 'log' | 'metrics' | 'health'>): void {
  switch (event.kind) {
    case 'rebuilding':
      metrics.rebuilding.set(1);
      log[event.stage === 'names' ? 'warn' : 'info']({ from: event.stage }, 'catalog is being rebuilt from the disk');
      return;
    case 'rebuilt':
      metrics.rebuilding.set(0);
      log.info({ ...event.counts }, 'catalog rebuilt');
      return;
    case 'rebuild-fault': {
      const { code } = event.fault;
      const text = `the catalog cannot be rebuilt now (${code}): the next start tries again`;
      health.fault({ code: 'catalog-lost', text });
      log.error({ code, error: described(event.fault) }, 'disk fault');
      return;
    }
    default:
      event satisfies never;
  }
}

function reportScrub(event: ScrubEvent, { log, metrics }: Pick<Parts, 'log' | 'metrics'>): void {
  switch (event.kind) {
    case 'scrub-started': {
      const started = new Date(event.startedAtMs).toISOString();
      log.info({ started, after: event.after === '' ? undefined : event.after }, 'scrub started');
      return;
    }
    case 'scrub-read':
      metrics.scrubbedBytes.inc(event.bytes);
      return;
    case 'scrub-found': {
      const { verdict } = event;
      metrics.scrubbedBlobs.inc({ found: verdict.kind });
      if (verdict.kind === 'ok') return;
      const isHarmless = verdict.kind === 'unrecorded' || verdict.kind === 'stray';
      log[isHarmless ? 'info' : 'error']({ ...verdict, kind: undefined, found: verdict.kind }, 'scrub found');
      return;
    }
    case 'scrub-repaired': {
      const { digest, result } = event;
      metrics.repairs.inc({ result });
      log[result === 'lost' ? 'warn' : 'info']({ digest, result }, 'scrub repaired');
      return;
    }
    case 'scrub-left':
      metrics.diskFaults.inc();
      log.error({ digest: event.digest, error: described(event.fault) }, 'scrub could not put it right');
      return;
    case 'scrub-finished': {
      const { startedAtMs, found, fetched } = event;
      log.info({ started: new Date(startedAtMs).toISOString(), found, fetched }, 'scrub finished');
      return;
    }
    case 'scrub-stopped':
      log.info('scrub stopped');
      return;
    case 'scrub-failed':
      log.error({ error: described(event.error) }, 'scrub failed, goes on later');
      return;
    default:
      event satisfies never;
  }
}
