import { join } from 'node:path';
import type { Config } from '../config/config.ts';
import type { HoldStore } from '../holds/hold-store.ts';
import type { HostedChange } from '../hosted/changes.ts';
import { HostedRegistry } from '../hosted/hosted-registry.ts';
import { hostedLayout } from '../hosted/layout.ts';
import { HostedScrub } from '../hosted/scrub.ts';
import { HostedTotals } from '../hosted/totals.ts';
import type { Report } from '../oci/report.ts';
import { type Layout, layoutOf } from '../store/files/layout.ts';
import type { Logger } from '../telemetry/logger.ts';
import { changeReport } from './content-events.ts';
import { described } from './described.ts';
import { hostedRules } from './hosted-rules.ts';
import { scrubIfDue } from './hosted-scrub.ts';
import type { Parts } from './parts.ts';
import { Rounds } from './rounds.ts';

/** Interval between searches for expired upload sessions, in milliseconds. */
const sweepEveryMs = 10 * 60_000;
/** Interval between searches for blobs that no manifest names, in milliseconds. */
const collectEveryMs = 24 * 3_600_000;
/** Interval between checks whether a scrub of hosted content is due, in milliseconds. */
const scrubLookEveryMs = 3_600_000;
/** The largest blob, in bytes. */
const maxBlobBytes = 50 * 2 ** 30;

/** Repositories that live here alone, and what is done for them in the background. */
export interface Hosted extends AsyncDisposable {
  readonly registry: HostedRegistry;
  /** For `status`. */
  status(): Promise<HostedStatus>;
}

/** The status of hosted content. */
export interface HostedStatus {
  /** Whether this replica keeps it. */
  readonly role: 'owner' | 'replica';
  /** The replica that keeps it, where that is another one. */
  readonly owner: string | null;
  /** Why the owner is not reached; `null`: it is. */
  readonly away: string | null;
  readonly repositories: number;
  readonly bytes: number;
  /** Files found damaged since the start. */
  readonly damaged: number;
}

/** @returns `undefined` where none are configured. @param config read each time: it may be replaced while the mirror runs */
export function openHosted(
  config: () => Config,
  { log, now, health, report }: Parts & { readonly report: Report<HostedChange> },
): Hosted | undefined {
  const started = config().hosted;
  if (started === undefined) return undefined;
  const registry = registryOf(config, { started, now, report });
  let damaged = 0;
  const { layout, blobs, repositories: names, usage } = registry;
  const scrub = new HostedScrub({
    layout,
    blobs,
    repositories: names,
    usage,
    bytesPerSecond: () => config().cache.scrub.rateBytesPerSecond,
    onDamage(digest, { repositories, error }) {
      damaged += 1;
      const text = `hosted content was found damaged and set aside in hosted/damaged: push ${digest} again`;
      health.fault({ code: 'disk-fault', text });
      log.error(
        { digest, repositories, error: error === undefined ? undefined : described(error) },
        'hosted blob damaged',
      );
    },
  });
  const note = join(config().cache.dir, 'hosted', 'scrubbed');
  const everyMs = () => config().cache.scrub.everyMs;
  const rounds = [
    new Rounds(() => sweepOnce(registry, log), { everyMs: sweepEveryMs, startsAtOnce: true }),
    new Rounds((signal) => collectOnce(registry, { log, signal }), { everyMs: collectEveryMs, startsAtOnce: true }),
    new Rounds((signal) => scrubIfDue(scrub, { log, signal, note, everyMs: everyMs(), now }), {
      everyMs: scrubLookEveryMs,
      startsAtOnce: false,
    }),
  ];
  const totals = new HostedTotals(registry);
  return {
    registry,
    async status() {
      return { role: 'owner', owner: null, away: null, ...(await totals.count()), damaged };
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(rounds.map((one) => one[Symbol.asyncDispose]()));
    },
  };
}

/**
 * The hosted repositories for a command that has the cache directory to itself: it holds what is new.
 * @returns `undefined` where none are configured
 */
export function hostedAlone(config: () => Config, holds: HoldStore): HostedRegistry | undefined {
  const started = config().hosted;
  const report = changeReport(() => undefined, holds);
  return started && registryOf(config, { started, now: Date.now, report });
}

/** Where the blobs of a cache directory are: those that are cached, then those of hosted repositories. */
export function blobPlaces(dir: string): readonly Pick<Layout, 'blob'>[] {
  return [layoutOf(dir), hostedLayout(join(dir, 'hosted'))];
}

function registryOf(
  config: () => Config,
  {
    started,
    now,
    report,
  }: Pick<Parts, 'now'> & {
    readonly started: NonNullable<Config['hosted']>;
    readonly report: Report<HostedChange>;
  },
): HostedRegistry {
  return new HostedRegistry({
    folder: join(config().cache.dir, 'hosted'),
    rules: hostedRules(config),
    maxBlobBytes,
    maxManifestBytes: config().cache.maxManifestSizeBytes,
    uploadExpiryMs: started.uploadExpiryMs,
    graceMs: () => (config().hosted ?? started).unusedBlobGraceMs,
    now,
    report,
  });
}

/** Removes upload sessions to which nothing was sent for too long. */
async function sweepOnce(registry: HostedRegistry, log: Logger): Promise<void> {
  try {
    const removed = await registry.uploads.sweep();
    if (removed > 0) log.info({ uploads: removed }, 'uploads expired');
  } catch (error) {
    log.error({ error: String(error) }, 'expired uploads cannot be removed');
  }
}

/** Removes blobs that no manifest names. */
async function collectOnce(
  registry: HostedRegistry,
  { log, signal }: Pick<Parts, 'log'> & { readonly signal: AbortSignal },
): Promise<void> {
  try {
    const { blobs, unlinkedBytes, leftovers, skipped } = await registry.collector.collect(signal);
    for (const fields of skipped) log.error(fields, 'hosted blobs cannot be collected');
    if (blobs + unlinkedBytes + leftovers > 0) {
      log.info({ blobs, bytes: unlinkedBytes, leftovers }, 'hosted blobs collected');
    }
  } catch (error) {
    if (!signal.aborted) log.error({ error: String(error) }, 'hosted blobs cannot be collected');
  }
}
