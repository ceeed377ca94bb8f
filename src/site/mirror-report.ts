import { PeerFailure } from '../coordination/peer-failure.ts';
import type { MirrorEvent } from '../mirror/parts.ts';
import type { Report } from '../oci/report.ts';
import { importOrigin } from '../operations/owner/archives/pushed-source.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { Refusal } from '../upstream/passage.ts';
import { described } from './described.ts';
import type { Health } from './health.ts';

interface MirrorParts {
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly health: Health;
}

/** Turns what happens in a mirror into log lines, metrics and readiness. */
export function mirrorReport(parts: MirrorParts): Report<MirrorEvent> {
  const { log, metrics } = parts;
  return (event) => {
    switch (event.kind) {
      case 'fill-started':
        metrics.fillsRunning.inc();
        break;
      case 'fill-ended': {
        const { digest, result } = event;
        metrics.fillsRunning.dec();
        metrics.fills.inc({ result });
        log.debug({ digest, result }, 'fill ended');
        break;
      }
      case 'received': {
        const { source, bytes } = event;
        // That did not come over the network.
        if (source.upstream === importOrigin) break;
        if (source.replica === undefined) metrics.upstreamBytes.inc({ upstream: source.upstream }, bytes);
        else metrics.peerReceivedBytes.inc(bytes);
        break;
      }
      case 'source-failed':
        sourceFailed(event, { log, metrics });
        break;
      case 'wrong-bytes': {
        const { digest, actual, sources } = event;
        metrics.wrongBytes.inc();
        log.error({ digest, actual, sources }, 'wrong bytes from upstream, dropped');
        break;
      }
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
      case 'disk-fault':
        diskFailed(event, parts);
        break;
      default:
        event satisfies never;
    }
  };
}

function sourceFailed(
  { digest, source, error, position }: Extract<MirrorEvent, { kind: 'source-failed' }>,
  { log, metrics }: Pick<MirrorParts, 'log' | 'metrics'>,
): void {
  if (error instanceof PeerFailure) {
    log.info({ digest, source: source.id, position, fault: error.fault }, 'replica failed, going on elsewhere');
    return;
  }
  // What was not sent has not failed: it is counted and logged where it was refused.
  const refused = error instanceof Refusal;
  if (!refused) metrics.sourceFailures.inc({ upstream: source.upstream });
  log[refused ? 'debug' : 'warn']({ digest, source: source.id, position, error: described(error) }, 'source failed');
}

function diskFailed({ error }: Extract<MirrorEvent, { kind: 'disk-fault' }>, parts: MirrorParts): void {
  const { log, metrics, health } = parts;
  metrics.diskFaults.inc();
  const text = `the disk of the cache fails (${error.code}): blobs are passed through without being kept`;
  health.fault({ code: 'disk-fault', text });
  log.error({ code: error.code, error: described(error) }, 'disk fault');
}
