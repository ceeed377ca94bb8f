import type { Exchange } from '../http/exchange.ts';
import type { RequestObserver } from '../http/middleware.ts';
import type { MirrorObserver } from '../mirror/mirror.ts';
import { RegistryError } from '../oci/error.ts';
import type { Logger, Metrics } from '../telemetry.ts';
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
      metrics.upstreamBytes.inc({ upstream: source.upstream }, bytes);
    },
    sourceFailed(digest, { source, error, position }) {
      metrics.sourceFailures.inc({ upstream: source.upstream });
      log.warn({ digest, source: source.id, position, error: described(error) }, 'source failed');
    },
    wrongBytes(digest, { sources, actual }) {
      metrics.wrongBytes.inc();
      log.error({ digest, actual, sources }, 'wrong bytes from upstream, dropped');
    },
    diskFault(error) {
      metrics.diskFaults.inc();
      health.fault(`the disk of the cache fails (${error.code}): blobs are passed through without being kept`);
      log.error({ code: error.code, error: described(error) }, 'disk fault');
    },
    manifestReceived(upstream, bytes) {
      metrics.upstreamBytes.inc({ upstream }, bytes);
    },
    staleServed(upstream) {
      metrics.stale.inc({ upstream });
    },
    revalidationFailed(repository, { tag, error }) {
      log.warn({ repository, tag, error: described(error) }, 'tag not confirmed, served as it is');
    },
  };
}

/** One log line and one count for each request. */
export function requestObserver({ log, metrics }: { log: Logger; metrics: Metrics }): RequestObserver {
  return ({ exchange, method, status, complete, durationMs, userAgent, client }) => {
    const { request, selection, outcome, failure, sentBytes } = exchange;
    const kind = request?.kind ?? 'other';
    const upstream = selection?.upstream.name ?? 'none';
    const result = resultOf(exchange, { status, complete });
    metrics.requests.inc({ upstream, kind, result });
    metrics.clientBytes.inc({ upstream, kind }, sentBytes);
    metrics.durations.observe({ kind, result }, durationMs / 1000);
    const isBug = failure !== undefined && !(failure instanceof RegistryError) && status === 500;
    const level = isBug ? 'error' : status >= 500 || result === 'cut' ? 'warn' : 'info';
    if (!log.isLevelEnabled(level)) return;
    log[level](
      {
        method,
        path: exchange.path,
        upstream,
        ...(selection && { repository: selection.repository, namedBy: selection.namedBy }),
        status,
        result,
        bytes: sentBytes,
        ms: Math.round(durationMs * 10) / 10,
        ...(client !== undefined && { client }),
        ...(userAgent !== undefined && { userAgent }),
        ...(outcome === undefined || outcome === result ? {} : { outcome }),
        ...(failure !== undefined && { error: described(failure) }),
        ...(isBug && { request: exchange.id }),
      },
      'request',
    );
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
    return { code: error.code, message: error.message, ...(code !== undefined && { cause: code }) };
  }
  if (error instanceof Error) return { name: error.name, message: error.message, stack: error.stack };
  return { message: String(error) };
}
