import type { Coordinator } from '../coordination/coordinator.ts';
import { PeerFailure } from '../coordination/peer-failure.ts';
import type { MillpondEvent } from '../events/event.ts';
import type { Exchange } from '../http/exchange.ts';
import type { RequestObserver } from '../http/middleware.ts';
import type { Condition } from '../http/operator-routes.ts';
import type { MirrorObserver } from '../mirror/mirror.ts';
import { RegistryError } from '../oci/error.ts';
import { importOrigin } from '../operations/owner/archives/pushed-source.ts';
import type { AdministrationObserver } from '../operations/owner/cache/owned-cache.ts';
import type { Audit } from '../telemetry/audit.ts';
import type { Logger, RequestLog } from '../telemetry/logger.ts';
import type { Metrics, UpstreamReading } from '../telemetry/metrics.ts';
import { type Part, Refusal } from '../upstream/passage.ts';
import { isAvailable, type Upstream, type UpstreamObserver, type UpstreamStatus } from '../upstream/upstream.ts';
import type { Health } from './health.ts';

/** Turns what happens in the mirror into log lines, numbers and readiness. */
export function mirrorObserver({
  log,
  metrics,
  health,
}: {
  log: Logger;
  metrics: Metrics;
  health: Health;
}): MirrorObserver {
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
    altered(digest) {
      metrics.altered.inc();
      log.error({ digest }, 'stored blob was altered, put into quarantine');
    },
    diskFault(error) {
      metrics.diskFaults.inc();
      const text = `the disk of the cache fails (${error.code}): blobs are passed through without being kept`;
      health.fault({ code: 'disk-fault', text });
      log.error({ code: error.code, error: described(error) }, 'disk fault');
    },
    manifestReceived(upstream, bytes) {
      metrics.upstreamBytes.inc({ upstream }, bytes);
    },
    staleServed(upstream) {
      metrics.stale.inc({ upstream });
    },
    revalidationFailed(repository, { tag, error }) {
      log[error instanceof Refusal ? 'debug' : 'warn'](
        { repository, tag, error: described(error) },
        'tag not confirmed, served as it is',
      );
    },
  };
}

/** One log line for everything that an operator changes. */
/** @param audit absent: what is done here was written down where it was asked for */
export function administrationObserver(log: Logger, audit?: Audit): AdministrationObserver {
  return {
    removed(repository, reference, { blobs, bytes }) {
      log.info({ repository, reference, blobs, bytes }, 'image removed');
      audit?.('image removed', { repository, reference });
    },
    pinned(repository, reference) {
      log.info({ repository, reference }, 'image pinned');
      audit?.('image pinned', { repository, reference });
    },
    unpinned(repository, reference) {
      log.info({ repository, reference }, 'image unpinned');
      audit?.('image unpinned', { repository, reference });
    },
  };
}

/** The same, and every other replica does it too. */
export function sharedAdministration(
  observer: AdministrationObserver,
  coordinator: Coordinator,
): AdministrationObserver {
  const tell = (kind: 'purge' | 'pin' | 'unpin', repository: string, reference: string): void =>
    void coordinator.announce({ kind, repository, reference });
  return {
    removed(repository, reference, freed) {
      observer.removed(repository, reference, freed);
      tell('purge', repository, reference);
    },
    pinned(repository, reference) {
      observer.pinned(repository, reference);
      tell('pin', repository, reference);
    },
    unpinned(repository, reference) {
      observer.unpinned(repository, reference);
      tell('unpin', repository, reference);
    },
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
    if (isAvailable(status)) return partConditions(upstream.name, status);
    const [first] = status.endpoints.map(({ tokenService, ...registry }) =>
      registry.state === 'available' ? `has a token service that ${tokenService.reason}` : registry.reason,
    );
    const text = `upstream ${upstream.name} ${first}: what is stored is served, the rest is refused at once`;
    return [{ code: 'upstream-away', text }];
  });
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

/** An error as far as it may be told: our own messages hold no secret, those of libraries may. */
export function described(error: unknown): unknown {
  if (error instanceof RegistryError) {
    const { cause } = error;
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : undefined;
    return {
      code: error.code,
      reason: error.reason,
      message: error.message,
      ...(code !== undefined && { cause: code }),
    };
  }
  if (error instanceof Error) return { name: error.name, message: error.message, stack: error.stack };
  return { message: String(error) };
}
