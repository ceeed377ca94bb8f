import { setTimeout as delay } from 'node:timers/promises';
import type { Digest } from '../../oci/digest.ts';
import type { Catalog } from '../catalog/catalog.ts';
import { DiskFault } from '../files/blob-store.ts';
import type { Verdict, Verification } from '../files/verification.ts';
import type { Custody } from './custody.ts';

/** How often everything that is stored is read again. */
export interface ScrubSettings {
  /** From the end of one round to the start of the next, in milliseconds; 0: never. */
  readonly everyMs: number;
}

/** The result of a round. */
export interface ScrubRound {
  readonly startedAtMs: number;
  /** Blobs that were read, by finding. */
  readonly found: Readonly<Partial<Record<Verdict['kind'], number>>>;
  readonly fetched: number;
}

/** The result for a blob that was lost. */
export type RepairResult =
  | 'fetched'
  /** No configured repository has it. */
  | 'unwanted'
  /** No upstream may be asked, or none could give it: it is fetched on the next request for it. */
  | 'lost';

/** The events of a scrub, for the log and the metrics. */
export type ScrubEvent =
  | { readonly kind: 'scrub-started'; readonly startedAtMs: number; readonly after: string }
  | { readonly kind: 'scrub-read'; readonly bytes: number }
  | { readonly kind: 'scrub-found'; readonly verdict: Verdict }
  | { readonly kind: 'scrub-repaired'; readonly digest: Digest; readonly result: RepairResult }
  /** The disk did not allow a repair: the finding stays until the next round. */
  | { readonly kind: 'scrub-left'; readonly digest: Digest; readonly fault: DiskFault }
  | ({ readonly kind: 'scrub-finished' } & ScrubRound)
  /** The configuration has disabled it; when it is enabled again, it continues. */
  | { readonly kind: 'scrub-stopped' }
  /** It could not continue, and retries later. */
  | { readonly kind: 'scrub-failed'; readonly error: unknown };

export interface ScrubOptions {
  readonly catalog: Catalog;
  /** Reads files at the configured rate. */
  readonly verification: Verification;
  readonly custody: Custody;
  /** Fetches a lost blob again. It throws only the signal's reason. */
  readonly repair: { fetch(digest: Digest, signal: AbortSignal): Promise<RepairResult> };
  /** Read each time the scrub checks whether a round is due. */
  readonly settings: () => ScrubSettings;
  readonly report: (event: ScrubEvent) => void;
  /** Wall clock in milliseconds. */
  readonly now: () => number;
}

/** The position of a round, as noted in the catalog. */
interface ScrubNote {
  readonly startedAtMs?: number;
  /** The last digest that was read. */
  readonly after?: string;
  /** The result so far. */
  readonly found?: ScrubRound['found'];
  readonly fetched?: number;
  readonly finishedAtMs?: number;
}

const noteName = 'scrub';
/** Maximum interval between checks whether a round is due. */
const lookEveryMs = 60_000;
/** Blobs read between two notes. */
const noteEvery = 20;

/**
 * Reads everything that is stored again, periodically, and repairs it: altered content is set aside, missing content
 * forgotten, and both are fetched again; unrecorded content is recorded. A round continues after a restart.
 */
export class Scrub implements AsyncDisposable {
  readonly #options: ScrubOptions;
  readonly #stop = new AbortController();
  #unwanted = new AbortController();
  #running: Promise<void> = Promise.resolve();

  constructor(options: ScrubOptions) {
    this.#options = options;
  }

  /** Starts the next round as soon as possible: stored content has not been read since the catalog was lost. */
  static makeDue(catalog: Catalog): void {
    catalog.notes.set(noteName, JSON.stringify({ finishedAtMs: 0 } satisfies ScrubNote));
  }

  /** Starts rounds when they are due, until it is disposed. */
  start(): void {
    this.#running = this.#rounds();
  }

  /** The settings have changed: a round that has been disabled ends. */
  look(): void {
    if (this.#options.settings().everyMs === 0) this.#unwanted.abort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #rounds(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const waitMs = this.#waitMs();
      const unwanted = new AbortController();
      this.#unwanted = unwanted;
      try {
        if (waitMs === 0) await this.#round(AbortSignal.any([signal, unwanted.signal]));
        else await delay(Math.min(waitMs, lookEveryMs), undefined, { signal, ref: false });
      } catch (error) {
        if (signal.aborted) return;
        if (unwanted.signal.aborted) {
          this.#options.report({ kind: 'scrub-stopped' });
          continue;
        }
        this.#options.report({ kind: 'scrub-failed', error });
        await delay(lookEveryMs, undefined, { signal, ref: false }).catch(() => undefined);
      }
    }
  }

  /** Time until the next round; 0 while one is in progress. */
  #waitMs(): number {
    const { settings, now } = this.#options;
    const { everyMs } = settings();
    const { startedAtMs, finishedAtMs } = this.#note();
    if (everyMs === 0) return lookEveryMs;
    if (startedAtMs !== undefined) return 0;
    // New content is verified: a new cache has nothing to read again. An end that a clock in the future has recorded
    // counts as unknown.
    if (finishedAtMs === undefined || finishedAtMs > now()) {
      this.#setNote({ finishedAtMs: now() });
      return everyMs;
    }
    return Math.max(0, finishedAtMs + everyMs - now());
  }

  /** Runs a round, or the rest of one. @throws the signal's reason, DiskFault, Error; the position stays noted */
  async #round(signal: AbortSignal): Promise<void> {
    const { verification, report, now } = this.#options;
    const { startedAtMs = now(), after = '', finishedAtMs, ...before } = this.#note();
    report({ kind: 'scrub-started', startedAtMs, after });
    // Before the first digest, nothing is noted that would not be found again.
    const found: Partial<Record<Verdict['kind'], number>> = after === '' ? {} : { ...before.found };
    let fetched = after === '' ? 0 : (before.fetched ?? 0);
    const settle = async (verdict: Verdict) => {
      found[verdict.kind] = (found[verdict.kind] ?? 0) + 1;
      report({ kind: 'scrub-found', verdict });
      if (await this.#settle(verdict, signal)) fetched += 1;
    };
    let last = after;
    const note = () =>
      this.#setNote({ startedAtMs, after: last, found, fetched, ...(finishedAtMs !== undefined && { finishedAtMs }) });
    note();
    const options = { signal, onRead: (bytes: number) => report({ kind: 'scrub-read', bytes }) };
    // Unrecorded blobs come first, so that they are recorded and later changes to them are found.
    if (after === '') for await (const verdict of verification.unrecorded(options)) await settle(verdict);
    try {
      let read = 0;
      for await (const verdict of verification.recorded({ ...options, after })) {
        await settle(verdict);
        if ('digest' in verdict) last = verdict.digest;
        if ((read += 1) % noteEvery === 0) note();
      }
    } finally {
      note();
    }
    this.#setNote({ finishedAtMs: now() });
    report({ kind: 'scrub-finished', startedAtMs, found, fetched });
  }

  /** @returns whether something was fetched again */
  async #settle(verdict: Verdict, signal: AbortSignal): Promise<boolean> {
    const { custody, repair, report } = this.#options;
    // One file that cannot be read or repaired says nothing about the others.
    if (verdict.kind === 'unreadable' || verdict.kind === 'stray') return false;
    try {
      await custody.settle(verdict);
      if (verdict.kind !== 'altered' && verdict.kind !== 'truncated' && verdict.kind !== 'missing') return false;
      const result = await repair.fetch(verdict.digest, signal);
      report({ kind: 'scrub-repaired', digest: verdict.digest, result });
      return result === 'fetched';
    } catch (error) {
      if (!(error instanceof DiskFault)) throw error;
      report({ kind: 'scrub-left', digest: verdict.digest, fault: error });
      return false;
    }
  }

  #note(): ScrubNote {
    const note = this.#options.catalog.notes.get(noteName);
    return note === undefined ? {} : (JSON.parse(note) as ScrubNote);
  }

  #setNote(note: ScrubNote): void {
    this.#options.catalog.notes.set(noteName, JSON.stringify(note));
  }
}
