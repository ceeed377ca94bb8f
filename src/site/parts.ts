import type { Audit } from '../telemetry/audit.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { Health } from './health.ts';
import type { WatchedFiles } from './watched-files.ts';

/** What every part of a running mirror is given. */
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
