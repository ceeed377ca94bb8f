import { setTimeout as sleep } from 'node:timers/promises';
import type { Coordinator } from '../coordination/coordinator.ts';
import type { Catalog } from '../store/catalog/catalog.ts';

const toldNote = 'told other replicas what is here';
/** Interval of complete announcements, in milliseconds: less than half of their lifetime. */
const againMs = 3 * 86_400_000;
/** Interval of checks whether there is something to announce, in milliseconds. */
const lookMs = 1_000;
/** Blobs announced at a time. */
const atOnce = 32;
/** Maximum blobs announced per second by one replica, and by all together: Redis has other work. */
const perSecond = 500;
const perSecondOfAll = 5_000;

export interface HoldingsOptions {
  readonly coordinator: Coordinator;
  readonly catalog: Catalog;
  /** Wall clock in milliseconds. */
  readonly now: () => number;
}

/**
 * Announces everything on this disk to the others if they cannot know it: Redis is new or was emptied, this replica is
 * new there, or the last announcement is about to expire. It does so slowly.
 */
export class Holdings implements AsyncDisposable {
  readonly #options: HoldingsOptions;
  readonly #stop = new AbortController();
  readonly #telling: Promise<void>;

  constructor(options: HoldingsOptions) {
    this.#options = options;
    this.#telling = this.#run().catch((error: unknown) => {
      if (!this.#stop.signal.aborted) throw error;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#telling;
  }

  /** @throws the signal's reason */
  async #run(): Promise<void> {
    const { catalog, now } = this.#options;
    while (true) {
      await this.#sleep(lookMs);
      const audience = this.#audience;
      const [told, atMs] = (catalog.notes.get(toldNote) ?? '').split(' ');
      if (audience === undefined || (told === audience && now() - Number(atMs) < againMs)) continue;
      if (await this.#tellAll(audience)) catalog.notes.set(toldNote, `${audience} ${now()}`);
    }
  }

  /** The announcing replica and its audience; `undefined` while there is none. */
  get #audience(): string | undefined {
    const { coordinator } = this.#options;
    const isConnected = coordinator.status().state === 'connected' && coordinator.epoch !== '';
    return isConnected ? `${coordinator.self}@${coordinator.epoch}` : undefined;
  }

  /** @returns whether everything was announced; otherwise it has to be repeated */
  async #tellAll(audience: string): Promise<boolean> {
    const { coordinator, catalog } = this.#options;
    let after = '';
    while (true) {
      const some = catalog.blobs.page({ after, limit: atOnce });
      const last = some.at(-1);
      if (last === undefined) return true;
      await Promise.all(some.map(({ digest }) => coordinator.hold(digest)));
      const isTold = this.#audience === audience;
      if (!isTold && this.#audience !== undefined) return false;
      // Digests that could not be announced without Redis are announced when it is back.
      if (isTold) after = last.digest;
      const rate = Math.min(perSecond, perSecondOfAll / (coordinator.replicas.length + 1));
      await this.#sleep((atOnce / rate) * 1_000);
    }
  }

  async #sleep(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.#stop.signal });
  }
}
