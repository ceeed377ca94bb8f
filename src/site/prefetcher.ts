import { readFile } from 'node:fs/promises';
import { setTimeout } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { Config, PrefetchConfig } from '../config/config.ts';
import { readImageList } from '../config/image-list.ts';
import type { ImageEntry } from '../config/image-list-schema.ts';
import { nextTime, scheduleOf } from '../config/schedule.ts';
import { formatDuration } from '../config/units.ts';
import type { FetchEvent, FetchParameters } from '../operations/protocol/fetch.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { Cache } from './cache.ts';
import { described } from './described.ts';

/** A clock that was set forward, and a machine that slept, are noticed after this. */
const longestSleepMs = 60_000;

/** The result of a scheduled fetch. */
export interface PrefetchRun {
  readonly startedAt: string;
  readonly seconds: number;
  /** `complete`: every image is here; `incomplete`: some are not; `failed`: it could not be done at all. */
  readonly result: 'complete' | 'incomplete' | 'failed';
  readonly images: number;
  readonly failed: number;
  readonly fetchedBytes: number;
}

/** One entry of the configuration's `prefetch`. */
export interface PrefetchStatus {
  /** `0 3 * * *`, or `every 6h`. */
  readonly schedule: string;
  readonly isRunning: boolean;
  /** `null`: never again. */
  readonly nextAt: string | null;
  /** `null`: there was none since the start. */
  readonly last: PrefetchRun | null;
}

interface Entry {
  readonly config: PrefetchConfig;
  nextAtMs: number;
  last: PrefetchRun | null;
}

export interface PrefetcherOptions {
  readonly cache: Cache;
  readonly log: Logger;
  readonly metrics: Metrics;
  /** Wall clock in milliseconds. */
  readonly now: () => number;
}

/** Brings images here on the schedules of the configuration, one entry at a time. */
export class Prefetcher implements AsyncDisposable {
  readonly #options: PrefetcherOptions;
  readonly #stop = new AbortController();
  readonly #ended: Promise<void>;
  #entries: readonly Entry[] = [];
  #running: Entry | undefined;
  #changed = new AbortController();

  constructor(options: PrefetcherOptions) {
    this.#options = options;
    this.replace(options.cache.config);
    this.#ended = this.#run();
  }

  /** Puts the schedules of a configuration in force. An entry that is the same stays; what is under way ends as it began. */
  replace({ prefetch, offline }: Config): void {
    const { now, log } = this.#options;
    if (offline && prefetch.length > 0) log.warn('offline: nothing is fetched on a schedule');
    const known = this.#entries;
    this.#entries = (offline ? [] : prefetch).map((config) => {
      const same = known.find((entry) => isDeepStrictEqual(entry.config, config));
      const schedule = scheduleOf(config);
      const nextAtMs = schedule.kind === 'every' ? now() : nextTime(schedule, now());
      return same ?? { config, nextAtMs, last: null };
    });
    this.#changed.abort();
    this.#changed = new AbortController();
  }

  status(): PrefetchStatus[] {
    return this.#entries.map((entry) => ({
      schedule: scheduleText(entry.config),
      isRunning: entry === this.#running,
      nextAt: Number.isFinite(entry.nextAtMs) ? new Date(entry.nextAtMs).toISOString() : null,
      last: entry.last,
    }));
  }

  /** Ends what is under way; what has come stays. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Error('this mirror is shutting down'));
    await this.#ended;
  }

  async #run(): Promise<void> {
    const { now } = this.#options;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const entry = this.#entries.toSorted((one, other) => one.nextAtMs - other.nextAtMs)[0];
      const waitMs = Math.min(longestSleepMs, (entry?.nextAtMs ?? Number.POSITIVE_INFINITY) - now());
      if (entry === undefined || waitMs > 0) {
        const awake = AbortSignal.any([signal, this.#changed.signal]);
        await setTimeout(waitMs, undefined, { signal: awake, ref: false }).catch(() => undefined);
        continue;
      }
      const startedAtMs = now();
      entry.nextAtMs = nextTime(scheduleOf(entry.config), startedAtMs);
      this.#running = entry;
      await this.#fetch(entry, startedAtMs);
      this.#running = undefined;
    }
  }

  /** Never throws: what goes wrong is logged and counted. */
  async #fetch(entry: Entry, startedAtMs: number): Promise<void> {
    const { cache, log, metrics, now } = this.#options;
    const { signal } = this.#stop;
    const { config } = entry;
    const schedule = scheduleText(config);
    log.info({ schedule }, 'scheduled fetch started');
    let end: Extract<FetchEvent, { kind: 'end' }> | undefined;
    try {
      // Most mirrors have no schedule, and start without this code.
      const [{ fetchImages }, { fetchDependencies }] = await Promise.all([
        import('../operations/owner/fetch/fetch.ts'),
        import('../operations/owner/operations.ts'),
      ]);
      for await (const event of fetchImages(await parametersOf(config), fetchDependencies(cache), { signal })) {
        if (event.kind === 'failed')
          log.warn({ schedule, image: event.image, error: event.error }, 'image not fetched');
        if (event.kind === 'warned') log.warn({ schedule, image: event.image }, event.warning);
        if (event.kind === 'left-out')
          log.warn({ schedule, image: event.image, name: event.name, error: event.reason }, 'referrer not fetched');
        if (event.kind === 'end') end = event;
      }
    } catch (error) {
      if (signal.aborted) return;
      log.error({ schedule, error: described(error) }, 'scheduled fetch failed');
    }
    const { images = 0, failed = 0, fetchedBytes = 0 } = end ?? {};
    const result = end === undefined ? 'failed' : failed > 0 ? 'incomplete' : 'complete';
    const seconds = Math.round((now() - startedAtMs) / 1000);
    entry.last = { startedAt: new Date(startedAtMs).toISOString(), seconds, result, images, failed, fetchedBytes };
    metrics.prefetches.inc({ result });
    if (end) log.info({ schedule, images, failed, fetchedBytes, seconds }, 'scheduled fetch finished');
  }
}

async function parametersOf({ images = [], file, platforms, referrers }: PrefetchConfig): Promise<FetchParameters> {
  const listed = file === undefined ? [] : readImageList(await readFile(file, 'utf8'), file);
  return { images: [...images, ...listed].map(wantedImages), platforms, referrers };
}

/** An entry of a list of images, as a warm-up takes it. */
export function wantedImages({ name, ...rest }: ImageEntry): FetchParameters['images'][number] {
  return { image: name, ...rest };
}

function scheduleText(config: PrefetchConfig): string {
  const schedule = scheduleOf(config);
  return schedule.kind === 'cron' ? schedule.expression : `every ${formatDuration(schedule.everyMs)}`;
}
