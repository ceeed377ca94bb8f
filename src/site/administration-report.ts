import type { Coordinator } from '../coordination/coordinator.ts';
import type { Report } from '../oci/report.ts';
import type { AdministrationEvent } from '../operations/owner/cache/owned-cache.ts';
import type { Audit } from '../telemetry/audit.ts';
import type { Logger } from '../telemetry/logger.ts';

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
