import { setTimeout as sleep } from 'node:timers/promises';
import type { Coordinator } from '../../coordination/coordinator.ts';
import type { Catalog } from '../../store/catalog/catalog.ts';

const toldNote = 'told other replicas what is here';
/** How often all of it is told again, in milliseconds: in less than half the time for which it is believed. */
const againMs = 3 * 86_400_000;
/** How often it is looked whether there is something to tell, in milliseconds. */
const lookMs = 1_000;
/** How many blobs are told of at once. */
const atOnce = 32;
/** Most blobs that one replica, and all of them together, tell of in a second: Redis has other things to do. */
const perSecond = 500;
const perSecondOfAll = 5_000;

export interface HoldingsOptions {
  readonly coordinator: Coordinator;
  readonly catalog: Catalog;
  /** Wall clock in milliseconds. */
  readonly now: () => number;
}

/**
 * Tells the others all that is on this disk where they cannot know it: Redis is another one or was emptied, this replica
 * is new there, or it was told so long ago that it is about to be forgotten. It takes its time.
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

  /** Who tells, and whom; `undefined` while nobody can be told. */
  get #audience(): string | undefined {
    const { coordinator } = this.#options;
    const isConnected = coordinator.status().state === 'connected' && coordinator.epoch !== '';
    return isConnected ? `${coordinator.self}@${coordinator.epoch}` : undefined;
  }

  /** @returns whether they have been told of all; otherwise it has to be done again */
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
      // What Redis was lost for is told when it is back.
      if (isTold) after = last.digest;
      const rate = Math.min(perSecond, perSecondOfAll / (coordinator.replicas.length + 1));
      await this.#sleep((atOnce / rate) * 1_000);
    }
  }

  async #sleep(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.#stop.signal });
  }
}
