import type { MillpondEvent } from '../events/event.ts';
import type { Condition } from '../http/operator-routes.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics, UpstreamReading } from '../telemetry/metrics.ts';
import type { Part } from '../upstream/passage.ts';
import { isAvailable, type Upstream, type UpstreamEvent, type UpstreamStatus } from '../upstream/upstream.ts';

/** One log line when an upstream is left alone and one when it is asked again; a count of what was refused meanwhile. */
export function upstreamReport({
  log,
  metrics,
  onEvent,
  onLimited,
}: {
  log: Logger;
  metrics: Metrics;
  onEvent: ((event: MillpondEvent) => void) | undefined;
  /** Receives a pause that this replica itself was asked for. */
  onLimited: (upstream: string, pause: { service: string; url: string; forMs: number; part?: Part }) => void;
}): (event: UpstreamEvent) => void {
  return (event) => {
    switch (event.kind) {
      case 'closed': {
        const { upstream, service, url, state, reason, forMs, isShared, part } = event;
        if (state === 'limited' && !isShared) onLimited(upstream, { service, url, forMs, ...(part && { part }) });
        const seconds = Math.ceil(forMs / 1000);
        log.warn({ upstream, service, url, ...part, state, reason, seconds }, 'upstream left alone');
        if (part === undefined) onEvent?.({ kind: 'upstream-down', upstream, reason });
        break;
      }
      case 'opened': {
        const { upstream, service, url, part } = event;
        log.info({ upstream, service, url, ...part }, 'upstream asked again');
        if (part === undefined) onEvent?.({ kind: 'upstream-up', upstream });
        break;
      }
      case 'refused': {
        const { upstream, service, state } = event;
        metrics.upstreamRefusals.inc({ upstream, reason: service === 'registry' ? state : `token_${state}` });
        break;
      }
      default:
        event satisfies never;
    }
  };
}

/** The upstreams' state as numbers. */
export function upstreamReadings(upstreams: readonly Upstream[]): UpstreamReading[] {
  return upstreams.map((upstream) => {
    const status = upstream.status();
    return { name: upstream.name, available: isAvailable(status), remainingPulls: status.rateLimit?.remaining };
  });
}

/** A sentence for each upstream that cannot be asked through any of its URLs, or not for some of its repositories. */
export function upstreamConditions(upstreams: readonly Upstream[]): Condition[] {
  return upstreams.flatMap((upstream) => {
    const status = upstream.status();
    const credentials = credentialConditions(status);
    if (isAvailable(status)) return [...credentials, ...partConditions(upstream.name, status)];
    const [first] = status.endpoints.map(({ tokenService, ...registry }) =>
      registry.state === 'available' ? `has a token service that ${tokenService.reason}` : registry.reason,
    );
    const text = `upstream ${upstream.name} ${first}: what is stored is served, the rest is refused at once`;
    return [...credentials, { code: 'upstream-away', text }];
  });
}

/** Credentials that cannot be renewed: pulls still work until they expire. */
function credentialConditions({ endpoints }: UpstreamStatus): Condition[] {
  const failures = endpoints.flatMap(({ credentials = [] }) => credentials.flatMap(({ failure }) => failure ?? []));
  return [...new Set(failures)].map((text) => ({ code: 'credentials-missing', text }));
}

/** Names no repository: a reader of the status may not be allowed to know of each. */
function partConditions(name: string, { endpoints }: UpstreamStatus): Condition[] {
  const parts = endpoints.flatMap(({ parts: own = [], tokenService }) => [...own, ...(tokenService.parts ?? [])]);
  const pulls = parts.filter(({ requests }) => requests !== 'list');
  const [first] = pulls;
  if (first === undefined) return [];
  const count = new Set(pulls.map(({ repository }) => repository)).size;
  const whose = count === 1 ? 'one repository' : `${count} repositories`;
  const who = first.requests === 'token' ? `has a token service that ${first.reason}` : first.reason;
  return [{ code: 'repository-away', text: `upstream ${name} ${who} for ${whose}: what is stored of it is served` }];
}
