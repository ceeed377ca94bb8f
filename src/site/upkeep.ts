import { setTimeout as delay } from 'node:timers/promises';
import type { Catalog } from '../store/catalog/catalog.ts';
import type { Rebuild } from '../store/catalog/rebuild.ts';
import type { Logger } from '../telemetry/logger.ts';
import { described } from './described.ts';

/**
 * How often it is seen whether the catalog is still in its place, and what is only noted in memory written to it, and how
 * soon where there is more than goes at once.
 */
const flushEveryMs = 1_000;
const flushNextMs = 40;
/** How often it is seen whether the clock was set back, and whether the journal of names has to be rewritten. */
const lookEveryMs = 60_000;
/** Between two parts of what is done behind the requests. */
const pauseMs = 5;

export interface UpkeepOptions {
  readonly catalog: Catalog;
  readonly rebuild: Rebuild;
  readonly log: Logger;
}

/**
 * What keeps a catalog in order behind the requests: batched writes, what a clock that was ahead has left, the rebuild of
 * a lost one, what has come to be pinned, the journal of names.
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

  /** Does what is to be done, after what is being done. */
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
