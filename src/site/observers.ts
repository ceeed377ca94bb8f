import type { Coordinator } from '../coordination/coordinator.ts';
import { PeerFailure } from '../coordination/peer-failure.ts';
import type { MillpondEvent } from '../events/event.ts';
import type { Exchange } from '../http/exchange.ts';
import type { RequestObserver } from '../http/middleware.ts';
import type { Condition } from '../http/operator-routes.ts';
import type { FillObserver } from '../mirror/fill/fill-events.ts';
import type { MirrorEvent, Report } from '../mirror/mirror-event.ts';
import { RegistryError } from '../oci/error.ts';
import { importOrigin } from '../operations/owner/archives/pushed-source.ts';
import type { AdministrationEvent } from '../operations/owner/cache/owned-cache.ts';
import type { Audit } from '../telemetry/audit.ts';
import type { Logger, RequestLog } from '../telemetry/logger.ts';
import type { Metrics, UpstreamReading } from '../telemetry/metrics.ts';
import { type Part, Refusal } from '../upstream/passage.ts';
import { isAvailable, type Upstream, type UpstreamObserver, type UpstreamStatus } from '../upstream/upstream.ts';
import { described } from './described.ts';
import type { Health } from './health.ts';

interface MirrorParts {
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly health: Health;
}

/** Turns events of fills into log lines, metrics and readiness. */
export function fillObserver(parts: MirrorParts): FillObserver {
  const { log, metrics } = parts;
  const report = mirrorReport(parts);
  return {
    started() {
      metrics.fillsRunning.inc();
    },
    ended(digest, result) {
      metrics.fillsRunning.dec();
      metrics.fills.inc({ result });
      log.debug({ digest, result }, 'fill ended');
    },
    received(source, bytes) {
      // That did not come over the network.
      if (source.upstream === importOrigin) return;
      if (source.replica === undefined) metrics.upstreamBytes.inc({ upstream: source.upstream }, bytes);
      else metrics.peerReceivedBytes.inc(bytes);
    },
    sourceFailed(digest, { source, error, position }) {
      // What was not sent has not failed: it is counted and logged where it was refused.
      const refused = error instanceof Refusal;
      if (error instanceof PeerFailure) {
        log.info({ digest, source: source.id, position, fault: error.fault }, 'replica failed, going on elsewhere');
        return;
      }
      if (!refused) metrics.sourceFailures.inc({ upstream: source.upstream });
      log[refused ? 'debug' : 'warn'](
        { digest, source: source.id, position, error: described(error) },
        'source failed',
      );
    },
    wrongBytes(digest, { sources, actual }) {
      metrics.wrongBytes.inc();
      log.error({ digest, actual, sources }, 'wrong bytes from upstream, dropped');
    },
    diskFault: (error) => report({ kind: 'disk-fault', error }),
  };
}

/** Turns other events of the mirror into log lines, metrics and readiness. */
export function mirrorReport({ log, metrics, health }: MirrorParts): Report<MirrorEvent> {
  return (event) => {
    switch (event.kind) {
      case 'manifest-received':
        metrics.upstreamBytes.inc({ upstream: event.upstream }, event.bytes);
        break;
      case 'stale-served':
        metrics.stale.inc({ upstream: event.upstream });
        break;
      case 'revalidation-failed': {
        const { repository, tag, error } = event;
        log[error instanceof Refusal ? 'debug' : 'warn'](
          { repository, tag, error: described(error) },
          'tag not confirmed, served as it is',
        );
        break;
      }
      case 'altered':
        metrics.altered.inc();
        log.error({ digest: event.digest }, 'stored blob was altered, put into quarantine');
        break;
      case 'disk-fault': {
        const { error } = event;
        metrics.diskFaults.inc();
        const text = `the disk of the cache fails (${error.code}): blobs are passed through without being kept`;
        health.fault({ code: 'disk-fault', text });
        log.error({ code: error.code, error: described(error) }, 'disk fault');
        break;
      }
      default:
        event satisfies never;
    }
  };
}

/**
 * One log line for everything that an operator changes.
 * @param audit absent: what is done here was written down where it was asked for
 */
export function administrationReport(log: Logger, audit?: Audit): Report<AdministrationEvent> {
  return (event) => {
    const { kind, repository, reference } = event;
    const freed = kind === 'removed' ? { blobs: event.blobs, bytes: event.bytes } : {};
    const text = `image ${kind}` as const;
    log.info({ repository, reference, ...freed }, text);
    audit?.(text, { repository, reference });
  };
}

const changes = { removed: 'purge', pinned: 'pin', unpinned: 'unpin' } as const;

/** The same, and every other replica does it too. */
export function sharedAdministration(
  report: Report<AdministrationEvent>,
  coordinator: Coordinator,
): Report<AdministrationEvent> {
  return (event) => {
    report(event);
    const { kind, repository, reference } = event;
    void coordinator.announce({ kind: changes[kind], repository, reference });
  };
}

/** One log line when an upstream is left alone and one when it is asked again; a count of what was refused meanwhile. */
export function upstreamObserver({
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
}): UpstreamObserver {
  return {
    closed(upstream, { service, url, state, reason, forMs, isShared, part }) {
      if (state === 'limited' && !isShared) onLimited(upstream, { service, url, forMs, ...(part && { part }) });
      const seconds = Math.ceil(forMs / 1000);
      log.warn({ upstream, service, url, ...part, state, reason, seconds }, 'upstream left alone');
      if (part === undefined) onEvent?.({ kind: 'upstream-down', upstream, reason });
    },
    opened(upstream, { service, url, part }) {
      log.info({ upstream, service, url, ...part }, 'upstream asked again');
      if (part === undefined) onEvent?.({ kind: 'upstream-up', upstream });
    },
    refused(upstream, { service, state }) {
      metrics.upstreamRefusals.inc({ upstream, reason: service === 'registry' ? state : `token_${state}` });
    },
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

/** Names no repository: those who may read this may not know of each. */
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

/** One log line and one count for each request. */
export function requestObserver({ log, metrics }: { log: RequestLog; metrics: Metrics }): RequestObserver {
  return ({ exchange, method, status, complete, durationMs, userAgent, client }) => {
    const { request, selection, outcome, failure, sentBytes } = exchange;
    const kind = request?.kind ?? 'other';
    const upstream = selection?.upstream.name ?? (exchange.hosted === undefined ? 'none' : 'hosted');
    const result = resultOf(exchange, { status, complete });
    // What replicas give one another is counted for itself.
    if (!exchange.isPeer)
      metrics.countRequest({ upstream, kind, result, bytes: sentBytes, seconds: durationMs / 1000 });
    const isBug = failure !== undefined && !(failure instanceof RegistryError) && status === 500;
    const level = isBug ? 'error' : status >= 500 || result === 'cut' ? 'warn' : 'info';
    log(level, {
      method,
      path: exchange.path,
      upstream,
      repository: selection?.repository ?? exchange.hosted,
      namedBy: selection?.namedBy,
      status,
      result,
      bytes: sentBytes,
      ms: Math.round(durationMs * 10) / 10,
      client,
      userAgent,
      through: exchange.through,
      outcome: outcome === result ? undefined : outcome,
      error: failure === undefined ? undefined : described(failure),
      request: isBug ? exchange.id : undefined,
    });
  };
}

/** The result of a request as a metric label: from a small closed set. */
function resultOf(exchange: Exchange, { status, complete }: { status: number; complete: boolean }): string {
  if (!complete) return exchange.failure === undefined ? 'left' : 'cut';
  if (status >= 500) return 'failed';
  if (status >= 400) return 'refused';
  return exchange.outcome ?? 'ok';
}
