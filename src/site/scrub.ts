import { Scrub, type ScrubObserver } from '../mirror/care/scrub.ts';
import { FileHasher } from '../store/files/file-hasher.ts';
import { Verification } from '../store/files/verification.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { Cache } from './cache.ts';
import { described } from './observers.ts';

interface Telemetry {
  readonly log: Logger;
  readonly metrics: Metrics;
}

/** Begins to read what is stored again, whenever that is due; `look` where the configuration has changed. */
export function startScrub(cache: Cache, telemetry: Telemetry): Pick<Scrub, 'look'> & AsyncDisposable {
  const { layout, catalog, mirror, repair, now } = cache;
  const hasher = new FileHasher({ bytesPerSecond: () => cache.config.cache.scrub.rateBytesPerSecond });
  const scrub = new Scrub({
    catalog,
    verification: new Verification({ layout, catalog, hasher, now }),
    custody: mirror.custody,
    repair,
    settings: () => ({ everyMs: cache.config.cache.scrub.everyMs }),
    observer: scrubObserver(telemetry),
    now,
  });
  scrub.start();
  return {
    look: () => scrub.look(),
    async [Symbol.asyncDispose]() {
      await scrub[Symbol.asyncDispose]();
      await hasher[Symbol.asyncDispose]();
    },
  };
}

function scrubObserver({ log, metrics }: Telemetry): ScrubObserver {
  return {
    started({ startedAtMs, after }) {
      const started = new Date(startedAtMs).toISOString();
      log.info({ started, after: after === '' ? undefined : after }, 'scrub started');
    },
    read(bytes) {
      metrics.scrubbedBytes.inc(bytes);
    },
    found(verdict) {
      metrics.scrubbedBlobs.inc({ found: verdict.kind });
      if (verdict.kind === 'ok') return;
      const isHarmless = verdict.kind === 'unrecorded' || verdict.kind === 'stray';
      log[isHarmless ? 'info' : 'error']({ ...verdict, kind: undefined, found: verdict.kind }, 'scrub found');
    },
    repaired(digest, result) {
      metrics.repairs.inc({ result });
      log[result === 'lost' ? 'warn' : 'info']({ digest, result }, 'scrub repaired');
    },
    left(digest, fault) {
      metrics.diskFaults.inc();
      log.error({ digest, error: described(fault) }, 'scrub could not put it right');
    },
    finished({ startedAtMs, found, fetched }) {
      log.info({ started: new Date(startedAtMs).toISOString(), found, fetched }, 'scrub finished');
    },
    stopped() {
      log.info('scrub stopped');
    },
    failed(error) {
      log.error({ error: described(error) }, 'scrub failed, goes on later');
    },
  };
}
