import type { Audit } from '../telemetry/audit.ts';
import type { Logger } from '../telemetry/logger.ts';
import { Metrics } from '../telemetry/metrics.ts';
import type { EventLoop } from './event-loop.ts';
import { Health } from './health.ts';
import { WatchedFiles } from './watched-files.ts';

/** The dependencies of every part of a running mirror: log, metrics, health, watched files, and the clock. */
export interface Parts {
  readonly log: Logger;
  readonly metrics: Metrics;
  /** Writes down refusals and changes. */
  readonly audit: Audit;
  readonly health: Health;
  /** The files that the configuration names. */
  readonly files: WatchedFiles;
  /** Wall clock in milliseconds. */
  readonly now: () => number;
}

/** Makes the parts around a log. */
export function createParts({
  log,
  lostLines = () => 0,
  eventLoop,
  now = Date.now,
  audit,
}: Pick<Parts, 'log' | 'audit'> & {
  readonly lostLines?: (() => number) | undefined;
  readonly eventLoop?: EventLoop | undefined;
  readonly now?: (() => number) | undefined;
}): Parts {
  const metrics = new Metrics();
  metrics.watchCount('log_lines_lost_total', 'Lines of the log that could not be written.', lostLines);
  if (eventLoop) {
    const help = 'How often the event loop was held for longer than 200 ms.';
    metrics.watchCount('event_loop_stalls_total', help, () => eventLoop.reading().stalls);
  }
  const health = new Health({ now });
  const files = new WatchedFiles({ log });
  health.watch(() => files.conditions(now()));
  metrics.watchCertificates(() => files.certificates());
  return { log, metrics, audit, health, files, now };
}
