import type { Exchange } from '../http/exchange.ts';
import type { EndedExchange } from '../http/middleware.ts';
import { RegistryError } from '../oci/error.ts';
import type { Report } from '../oci/report.ts';
import type { RequestLog } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { described } from './described.ts';

/** One log line and one count for each request. */
export function requestReport({ log, metrics }: { log: RequestLog; metrics: Metrics }): Report<EndedExchange> {
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
