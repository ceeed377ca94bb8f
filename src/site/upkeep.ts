import { setTimeout as delay } from 'node:timers/promises';
import type { Catalog } from '../store/catalog/catalog.ts';
import type { Rebuild } from '../store/catalog/rebuild.ts';
import type { Logger } from '../telemetry/logger.ts';
import { described } from './described.ts';

/** Interval at which uses are written, and the file is checked to be in its place; the second one while more is to be written. */
const flushEveryMs = 1_000;
const flushNextMs = 40;
/** Interval of checks whether the clock was set back, and whether the journal of names has to be rewritten. */
const lookEveryMs = 60_000;
/** Between two parts of the work in the background. */
const pauseMs = 5;

export interface UpkeepOptions {
  readonly catalog: Catalog;
  readonly rebuild: Rebuild;
  readonly log: Logger;
}

/**
 * Keeps a catalog in order in the background: batched writes, times from a clock that was ahead, the rebuild of a lost
 * catalog, new pins, the journal of names.
 */
export class Upkeep implements AsyncDisposable {
  readonly #options: UpkeepOptions;
  readonly #stop = new AbortController();
  #flushing: NodeJS.Timeout;
  readonly #looking: NodeJS.Timeout;
  #work: Promise<void> = Promise.resolve();

  constructor(options: UpkeepOptions) {
    this.#options = options;
    this.#flushing = setTimeout(() => this.#flush(), flushEveryMs);
    this.#looking = setInterval(() => this.look(), lookEveryMs);
    this.look();
  }

  /** Starts a round, after the current one. */
  look(): void {
    this.#work = this.#work.then(() => this.#do());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#flushing);
    clearInterval(this.#looking);
    this.#stop.abort();
    await this.#work;
  }

  #flush(): void {
    const { catalog } = this.#options;
    catalog.look();
    const isMore = catalog.uses.flush();
    this.#flushing = setTimeout(() => this.#flush(), isMore ? flushNextMs : flushEveryMs);
  }

  async #do(): Promise<void> {
    const { catalog, rebuild, log } = this.#options;
    const { signal } = this.#stop;
    if (signal.aborted) return;
    try {
      while (catalog.uses.setClockBack()) await delay(pauseMs, undefined, { signal });
      await rebuild.run(signal);
      while (catalog.pins.renew()) await delay(pauseMs, undefined, { signal });
      // As long as the catalog lacks something, the journal is all there is.
      if (rebuild.stage !== undefined || !catalog.names.isJournalWorn) return;
      await catalog.names.rewriteJournal(() => delay(pauseMs, undefined, { signal }));
      log.debug({ bytes: catalog.names.journalBytes }, 'journal of names rewritten');
    } catch (error) {
      if (!signal.aborted) log.error({ error: described(error) }, 'upkeep of the catalog failed');
    }
  }
}
