import { randomUUID } from 'node:crypto';
import type { RedisClock } from './clock.ts';
import type { Change, Message } from './coordinator.ts';
import { readChangesScript, recordChangesScript } from './fleet-scripts.ts';
import { readUntold, type Untold } from './position.ts';
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
  /** When it was told, about: whoever can write to Redis could otherwise have it done again at any time. */
  readonly atMs: number;
  /** Tells it from the same done at another time. */
  readonly id: string;
}

/** A change that Redis has, and that a replica has told. */
interface Told {
  readonly from: string;
  readonly message: Change;
  /**
   * When it was done: by Redis's clock, or later where another was done later by then, since that clock may go back. No two
   * at one time.
   */
  readonly at: number;
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
  /** Called when there are more that this replica's secret does not open. @param count all of them */
  readonly onUnread: (count: number) => void;
  /** Called at once when what the others have not been told yet has changed: it is to outlive this process. */
  readonly onUntold: (untold: string) => void;
}

/**
 * What operators do to images, kept in Redis for replicas that are away. Each replica remembers all of it, and writes it
 * again into a Redis that has lost it.
 */
export class Changes {
  readonly #options: ChangesOptions;
  /** What Redis has, as it was sealed. */
  #known = new Map<string, Told>();
  /** What of it has been read there. */
  #heard = new Set<string>();
  /** What could not be told yet, as JSON, and as it was sealed: Redis may have it, and its answer have been lost. */
  readonly #untold = new Map<string, string | undefined>();
  /** Settles when nothing is being told; never rejects. */
  #told = Promise.resolve();
  /** The last one that has been heard of. */
  #at = 0;
  /** Up to here it was done before this run; `undefined`: by none, the disk is new. */
  #doneAt: number | undefined;
  /** But for these, which another secret has signed: a later run may have that. */
  #unread: ReadonlySet<string> = new Set();
  /** What Redis had when it was read last: that of strangers too. */
  #seen: { readonly count: number; readonly last: number } | undefined;
  #isLost = false;

  constructor(options: ChangesOptions) {
    this.#options = options;
  }

  /** When the last one that this replica has heard of was done. */
  get at(): number {
    return this.#at;
  }

  /** Which there are that could not be read, for a later run. */
  get unread(): readonly string[] {
    return [...this.#unread];
  }

  /** Goes on from where an earlier run was. @param earlier `at`: of the last that it had heard of, if of any */
  continueFrom({ at, unread }: { at: number | undefined; unread: readonly string[] }): void {
    this.#doneAt = at;
    this.#at = at ?? 0;
    this.#unread = new Set(unread);
  }

  /** Takes up what an earlier run could not tell. @param text as it was given to `onUntold`; anything else is nothing */
  takeUp(text: string): void {
    for (const one of readUntold(text).slice(0, maxChanges)) this.#untold.set(one.change, one.sealed);
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
    if (this.#seen !== undefined && this.#untold.has(text)) this.#sealed(text);
    this.#keep();
    await this.tell();
  }

  /**
   * Hears of what is new.
   * @param found what there is in Redis: how many, when the last was done, and what time it is there
   * @throws LinkError
   */
  async catchUp({ count, last, now }: { count: number; last: number; now: number }): Promise<void> {
    for (const [sealed, { at }] of this.#known) if (isOver(at, now)) this.#known.delete(sealed);
    const latest = Math.max(0, ...[...this.#known.values()].map(({ at }) => at));
    if (last < latest) this.#isLost = true;
    if (this.#seen?.count === count && this.#seen.last === last) return;
    const isFirst = this.#seen === undefined;
    const left = this.#unread;
    const found = await this.#read(now);
    // What Redis has lost is told again before it is forgotten.
    const lost = this.#isLost ? this.#known : [];
    this.#known = new Map([...lost, ...found].toSorted(([, one], [, other]) => one.at - other.at));
    const news = new Set<Told>();
    for (const [sealed, told] of found) {
      this.#at = Math.max(this.#at, told.at);
      const isDone = told.at <= (this.#doneAt ?? 0) && !left.has(markOf(sealed));
      if (!this.#heard.has(sealed) && !isDone) news.add(told);
    }
    this.#heard = new Set(this.#known.keys());
    this.#hear(news, { now, isFirst });
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
    const [oldest] = this.#known.values();
    if (this.#doneAt === undefined || oldest === undefined || this.#seen === undefined) return false;
    return this.#seen.count >= maxChanges && oldest.at > this.#doneAt;
  }

  /**
   * Passes on what is new. Of the pins of an image only the last counts, one's own too: others may have told of theirs
   * between what was done here and its being told.
   */
  #hear(news: ReadonlySet<Told>, { now, isFirst }: { now: number; isFirst: boolean }): void {
    const { self, onChange } = this.#options;
    const pins = [...this.#known.values()].filter(({ message }) => message.kind !== 'purge');
    const last = new Map(pins.map((told) => [imageOf(told.message), told]));
    const changed = new Set([...news].map(({ message }) => imageOf(message)));
    // What is still to be told will be the last.
    for (const text of this.#untold.keys()) {
      const message = JSON.parse(text) as Change;
      if (message.kind !== 'purge') changed.delete(imageOf(message));
    }
    // On a disk that was not there then, nothing is left to remove.
    const isNew = this.#doneAt === undefined && isFirst;
    for (const told of this.#known.values()) {
      const { from, message, at } = told;
      const isWanted =
        message.kind === 'purge'
          ? news.has(told) && !isNew && from !== self()
          : changed.has(imageOf(message)) && last.get(imageOf(message)) === told;
      if (isWanted) onChange(message, { from, ageMs: Math.max(0, now - at) });
    }
  }

  async #tellLost(): Promise<void> {
    if (!this.#isLost) return;
    if (this.#known.size > 0) await this.#record([...this.#known].map(([sealed, { at }]) => [sealed, at]));
    this.#isLost = false;
  }

  async #tellUntold(): Promise<void> {
    // It is done after all that Redis has, which has to be known.
    if (this.#seen === undefined || this.#untold.size === 0) return;
    const telling = [...this.#untold.keys()].map((text) => ({ text, sealed: this.#sealed(text) }));
    const times = await this.#record(telling.map(({ sealed }) => [sealed, '']));
    for (const [index, { text, sealed }] of telling.entries()) {
      const { from, message } = this.#options.seal.open('change', sealed) as SealedChange;
      // Redis may lose it before it can be read back.
      this.#known.set(sealed, { from, message, at: Number(times[index]) });
      // What was done once more meanwhile is told once more.
      if (this.#untold.get(text) === sealed) this.#untold.delete(text);
    }
    this.#keep();
  }

  #keep(): void {
    const untold = [...this.#untold].map(([change, sealed]) => ({ change, sealed }) satisfies Untold);
    this.#options.onUntold(JSON.stringify(untold));
  }

  /** The same text each time, so that telling it again changes nothing. @throws LinkError */
  #sealed(text: string): string {
    const { seal, clock, self } = this.#options;
    const atMs = Math.max(clock.nowMs, this.#latest);
    const before = this.#untold.get(text);
    const opened = seal.open('change', before) as SealedChange | undefined;
    if (before !== undefined && opened !== undefined && atMs - opened.atMs < sealedForMs) return before;
    const message = JSON.parse(text) as Change;
    const sealed = seal.close('change', { from: self(), message, atMs, id: randomUUID() } satisfies SealedChange);
    this.#untold.set(text, sealed);
    return sealed;
  }

  async #record(entries: readonly (readonly [sealed: string, at: number | ''])[]): Promise<string[]> {
    const { link, wakeChannel } = this.#options;
    const answer = await link.run(
      recordChangesScript,
      [changesKey],
      [wakeChannel, changesKeptMs, maxChanges, this.#latest, ...entries.flat()],
    );
    return answer as string[];
  }

  /** When the last one that is known was done. */
  get #latest(): number {
    return Math.max(this.#at, ...[...this.#known.values()].map(({ at }) => at));
  }

  /** What replicas have told. What anybody else has put there, or moved to another time, is as if it were not there. */
  async #read(now: number): Promise<Map<string, Told>> {
    const found = (await this.#options.link.run(readChangesScript, [changesKey], [])) as string[];
    const changes = new Map<string, Told>();
    const unread = new Set<string>();
    for (let index = 0; index + 1 < found.length; index += 2) {
      const [sealed, at] = [found[index]!, Number(found[index + 1])];
      const opened = this.#options.seal.open('change', sealed) as SealedChange | undefined;
      const mark = markOf(sealed);
      if (opened === undefined && (at > (this.#doneAt ?? 0) || this.#unread.has(mark))) unread.add(mark);
      if (opened === undefined || at - opened.atMs > toldWithinMs || isOver(at, now)) continue;
      changes.set(sealed, { from: opened.from, message: opened.message, at });
    }
    this.#seen = { count: found.length / 2, last: Number(found.at(-1) ?? 0) };
    const areMore = [...unread].some((mark) => !this.#unread.has(mark));
    this.#unread = unread;
    if (areMore) this.#options.onUnread(unread.size);
    return changes;
  }
}

/** Tells a change from others, whoever can read it: it begins with the code that signs it. */
function markOf(sealed: string): string {
  return sealed.slice(0, 22);
}

/** Whether nobody keeps what was done then any longer: Redis may have it still, or not. */
function isOver(at: number, now: number): boolean {
  return now - at > changesKeptMs;
}

function imageOf({ repository, reference }: Change): string {
  return `${repository}\n${reference}`;
}

/** Whether a message is kept for replicas that are away. */
export function isChange(message: Message): message is Change {
  return message.kind === 'purge' || message.kind === 'pin' || message.kind === 'unpin';
}
