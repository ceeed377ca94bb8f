import { randomUUID } from 'node:crypto';
import type { RedisClock } from './clock.ts';
import type { Change, Message } from './coordinator.ts';
import { readChangesScript, recordChangesScript } from './fleet-scripts.ts';
import type { Link } from './redis.ts';
import type { Seal } from './seal.ts';

/** How long what operators do is kept for replicas that are away, in milliseconds. */
export const changesKeptMs = 30 * 86_400_000;
/** Most of it that is kept. */
const maxChanges = 1_000;

/** Most time that may lie between when a change was sealed and when Redis says that it was done, in milliseconds. */
const toldWithinMs = 3_600_000;
/** One that could not be told for so long is sealed once more, in milliseconds. */
const sealedForMs = toldWithinMs / 2;

interface SealedChange {
  readonly from: string;
  readonly message: Change;
  /** When it was told, by Redis's clock: whoever can write there could otherwise have it done again at any time. */
  readonly atMs: number;
  /** Tells it from the same done at another time. */
  readonly id: string;
}

/** Where a replica's changes are kept; the same node of a cluster as the rest of the fleet. */
export const changesKey = '{fleet}:changes';

export interface ChangesOptions {
  readonly link: Link;
  readonly seal: Seal;
  readonly clock: RedisClock;
  readonly wakeChannel: string;
  readonly self: () => string;
  readonly onChange: (change: Change, event: { readonly from: string; readonly ageMs: number }) => void;
}

/**
 * What operators do to images, kept in Redis for replicas that are away. Each replica remembers all of it, and writes it
 * again into a Redis that has lost it.
 */
export class Changes {
  readonly #options: ChangesOptions;
  /** What Redis has, sealed, and when it was done by its clock: no two at one time. */
  #known = new Map<string, number>();
  /** What could not be told yet, as JSON, and as it was sealed: Redis may have it, and its answer have been lost. */
  readonly #untold = new Map<string, { readonly sealed: string; readonly atMs: number } | undefined>();
  /** Settles when nothing is being told; never rejects. */
  #told = Promise.resolve();
  /** The last one that has been heard of. */
  #at = 0;
  /** Up to here it was done before this run; `undefined`: by none, the disk is new. */
  #doneAt: number | undefined;
  #isRead = false;
  #isLost = false;

  constructor(options: ChangesOptions) {
    this.#options = options;
  }

  /** When the last one that this replica has heard of was done. */
  get at(): number {
    return this.#at;
  }

  /** What the others have not been told yet, for a later run. */
  get untold(): readonly string[] {
    return [...this.#untold.keys()];
  }

  /** Goes on from where an earlier run was. @param earlier `at`: of the last that it had heard of, if of any */
  continueFrom({ at, untold }: { at: number | undefined; untold: readonly string[] }): void {
    this.#doneAt = at;
    this.#at = at ?? 0;
    for (const text of untold.slice(0, maxChanges)) this.#untold.set(text, undefined);
  }

  /** Redis was emptied: what is known here is to be written into it again. */
  lost(): void {
    this.#isLost = true;
  }

  /** Tells the others, now or when Redis is back. @throws LinkError while it is not */
  async announce(change: Change): Promise<void> {
    const text = JSON.stringify(change);
    // What was done last is told last.
    this.#untold.delete(text);
    if (this.#untold.size < maxChanges) this.#untold.set(text, undefined);
    await this.tell();
  }

  /**
   * Hears of what is new.
   * @param found what there is in Redis: how many, when the last was done, and what time it is there
   * @throws LinkError
   */
  async catchUp({ count, last, now }: { count: number; last: number; now: number }): Promise<void> {
    const latest = Math.max(0, ...this.#known.values());
    if (last < latest) this.#isLost = true;
    if (this.#isRead && last === latest && count === this.#known.size) return;
    const before = this.#known;
    const found = await this.#read();
    // What Redis has lost is told again before it is forgotten.
    this.#known = this.#isLost ? new Map([...before, ...found].toSorted(([, one], [, other]) => one - other)) : found;
    const isFirst = !this.#isRead;
    this.#isRead = true;
    for (const [sealed, at] of found) {
      this.#at = Math.max(this.#at, at);
      if (before.has(sealed) || at <= (this.#doneAt ?? 0)) continue;
      this.#hear(sealed, { at, now, isFirst });
    }
  }

  /** Tells what is untold or was lost. One at a time: what is told twice is heard twice. @throws LinkError */
  async tell(): Promise<void> {
    const telling = this.#told.then(async () => {
      await this.#tellLost();
      await this.#tellUntold();
    });
    this.#told = telling.catch(() => undefined);
    await telling;
  }

  /** Whether something may have been dropped before this replica could hear of it. */
  get isCut(): boolean {
    const [oldest = 0] = this.#known.values();
    return this.#doneAt !== undefined && this.#known.size >= maxChanges && oldest > this.#doneAt;
  }

  #hear(sealed: string, { at, now, isFirst }: { at: number; now: number; isFirst: boolean }): void {
    const { seal, self, onChange } = this.#options;
    const opened = seal.open('change', sealed) as SealedChange | undefined;
    if (opened === undefined || at - opened.atMs > toldWithinMs) return;
    const { from, message } = opened;
    // On a disk that was not there then, nothing is left to remove, and even its own pins are news.
    const isNew = this.#doneAt === undefined && isFirst;
    if (isNew ? message.kind === 'purge' : from === self()) return;
    onChange(message, { from, ageMs: Math.max(0, now - at) });
  }

  async #tellLost(): Promise<void> {
    if (!this.#isLost) return;
    if (this.#known.size > 0) await this.#record([...this.#known]);
    this.#isLost = false;
  }

  async #tellUntold(): Promise<void> {
    const telling = [...this.#untold.keys()].map((text) => ({ text, sealed: this.#sealed(text) }));
    if (telling.length === 0) return;
    const times = await this.#record(telling.map(({ sealed }) => [sealed, '']));
    for (const [index, { text, sealed }] of telling.entries()) {
      // Redis may lose it before it can be read back.
      this.#known.set(sealed, Number(times[index]));
      // What was done once more meanwhile is told once more.
      if (this.#untold.get(text)?.sealed === sealed) this.#untold.delete(text);
    }
  }

  /** The same text each time, so that telling it again changes nothing. @throws LinkError */
  #sealed(text: string): string {
    const { seal, clock, self } = this.#options;
    const atMs = clock.nowMs;
    const before = this.#untold.get(text);
    if (before !== undefined && atMs - before.atMs < sealedForMs) return before.sealed;
    const message = JSON.parse(text) as Change;
    const sealed = seal.close('change', { from: self(), message, atMs, id: randomUUID() } satisfies SealedChange);
    this.#untold.set(text, { sealed, atMs });
    return sealed;
  }

  async #record(entries: readonly (readonly [sealed: string, at: number | ''])[]): Promise<string[]> {
    const { link, wakeChannel } = this.#options;
    const answer = await link.run(
      recordChangesScript,
      [changesKey],
      [wakeChannel, changesKeptMs, maxChanges, ...entries.flat()],
    );
    return answer as string[];
  }

  async #read(): Promise<Map<string, number>> {
    const found = (await this.#options.link.run(readChangesScript, [changesKey], [])) as string[];
    const changes = new Map<string, number>();
    for (let index = 0; index + 1 < found.length; index += 2) changes.set(found[index]!, Number(found[index + 1]));
    return changes;
  }
}

/** Whether a message is kept for replicas that are away. */
export function isChange(message: Message): message is Change {
  return message.kind === 'purge' || message.kind === 'pin' || message.kind === 'unpin';
}
