import { randomUUID } from 'node:crypto';
import type { RedisClock } from './clock.ts';
import type { Change, Message } from './coordinator.ts';
import { readChangesScript, recordChangesScript } from './fleet-scripts.ts';
import { readUntold, type Untold } from './position.ts';
import type { Link } from './redis.ts';
import type { Seal } from './seal.ts';

/** How long commands of operators are kept for absent replicas, in milliseconds. */
export const changesKeptMs = 30 * 86_400_000;
/** Maximum number of kept commands. */
const maxChanges = 1_000;

/** Maximum time between sealing a change and Redis's time of it, in milliseconds. */
const toldWithinMs = 3_600_000;
/** A change that could not be announced for this long is sealed again, in milliseconds. */
const sealedForMs = toldWithinMs / 2;

interface SealedChange {
  readonly from: string;
  readonly message: Change;
  /** Approximate time of the announcement: otherwise anyone who can write to Redis could have it applied again at any time. */
  readonly atMs: number;
  /** Distinguishes it from the same change at another time. */
  readonly id: string;
}

/** A change in Redis, announced by a replica. */
interface Told {
  readonly from: string;
  readonly message: Change;
  /**
   * The time of the change: by Redis's clock, or later if another change already has a later time, because that clock may
   * go back. No two changes share a time.
   */
  readonly at: number;
}

/** Where the changes of a replica are kept; on the same cluster node as the rest of the fleet. */
export const changesKey = '{fleet}:changes';

export interface ChangesOptions {
  readonly link: Link;
  readonly seal: Seal;
  readonly clock: RedisClock;
  readonly wakeChannel: string;
  readonly self: () => string;
  readonly onChange: (change: Change, event: { readonly from: string; readonly ageMs: number }) => void;
  /** Called when there are more changes that this replica's secret does not open. @param count the total */
  readonly onUnread: (count: number) => void;
  /** Called at once when the unannounced changes change: they must outlive this process. */
  readonly onUntold: (untold: string) => void;
}

/**
 * The commands of operators, kept in Redis for absent replicas. Each replica remembers all of them, and writes them again
 * to a Redis that has lost them.
 */
export class Changes {
  readonly #options: ChangesOptions;
  /** The sealed changes in Redis. */
  #known = new Map<string, Told>();
  /** The changes read from there. */
  #heard = new Set<string>();
  /** Unannounced changes, as JSON and sealed: Redis may have one although its answer was lost. */
  readonly #untold = new Map<string, string | undefined>();
  /** Settles when nothing is being announced; never rejects. */
  #told = Promise.resolve();
  /** The last change that this replica has processed. */
  #at = 0;
  /** The time up to which earlier runs have processed changes; `undefined`: none, because the disk is new. */
  #doneAt: number | undefined;
  /** Exceptions, signed with another secret: a later run may have it. */
  #unread: ReadonlySet<string> = new Set();
  /** The number of changes in Redis at the last read, including foreign ones. */
  #seen: { readonly count: number; readonly last: number } | undefined;
  #isLost = false;

  constructor(options: ChangesOptions) {
    this.#options = options;
  }

  /** The time of the last change that this replica has processed. */
  get at(): number {
    return this.#at;
  }

  /** The unreadable changes, for a later run. */
  get unread(): readonly string[] {
    return [...this.#unread];
  }

  /** Continues where an earlier run was. @param earlier `at`: time of the last change it had processed, if any */
  continueFrom({ at, unread }: { at: number | undefined; unread: readonly string[] }): void {
    this.#doneAt = at;
    this.#at = at ?? 0;
    this.#unread = new Set(unread);
  }

  /** Restores what an earlier run could not announce. @param text as passed to `onUntold`; anything else is ignored */
  takeUp(text: string): void {
    for (const one of readUntold(text).slice(0, maxChanges)) this.#untold.set(one.change, one.sealed);
  }

  /** Redis was emptied: the known changes must be written to it again. */
  lost(): void {
    this.#isLost = true;
  }

  /** Announces a change to the others, now or when Redis is back. @throws LinkError while Redis is lost */
  async announce(change: Change): Promise<void> {
    const text = JSON.stringify(change);
    // The latest change is announced last.
    this.#untold.delete(text);
    if (this.#untold.size < maxChanges) this.#untold.set(text, undefined);
    if (this.#seen !== undefined && this.#untold.has(text)) this.#sealed(text);
    this.#keep();
    await this.tell();
  }

  /**
   * Processes new changes.
   * @param found the state in Redis: the number of changes, the time of the last, and Redis's current time
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
    // Changes that Redis has lost are announced again before they are forgotten.
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

  /** Announces unannounced and lost changes, one call at a time, because repeated announcements are processed twice. @throws LinkError */
  async tell(): Promise<void> {
    const telling = this.#told.then(async () => {
      await this.#tellLost();
      await this.#tellUntold();
    });
    this.#told = telling.catch(() => undefined);
    await telling;
  }

  /** Whether something may have been dropped before this replica could process it. */
  get isCut(): boolean {
    const [oldest] = this.#known.values();
    if (this.#doneAt === undefined || oldest === undefined || this.#seen === undefined) return false;
    return this.#seen.count >= maxChanges && oldest.at > this.#doneAt;
  }

  /**
   * Passes on what is new. Of the pins of an image, only the last counts, including this replica's own: others may have
   * announced theirs between a local change and its announcement.
   */
  #hear(news: ReadonlySet<Told>, { now, isFirst }: { now: number; isFirst: boolean }): void {
    const { self, onChange } = this.#options;
    const pins = [...this.#known.values()].filter(({ message }) => message.kind !== 'purge');
    const last = new Map(pins.map((told) => [imageOf(told.message), told]));
    const changed = new Set([...news].map(({ message }) => imageOf(message)));
    // The pending announcement will be the last.
    for (const text of this.#untold.keys()) {
      const message = JSON.parse(text) as Change;
      if (message.kind !== 'purge') changed.delete(imageOf(message));
    }
    // A disk that did not exist then has nothing to remove.
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
    // It applies after everything in Redis, which has to be known.
    if (this.#seen === undefined || this.#untold.size === 0) return;
    const telling = [...this.#untold.keys()].map((text) => ({ text, sealed: this.#sealed(text) }));
    const times = await this.#record(telling.map(({ sealed }) => [sealed, '']));
    for (const [index, { text, sealed }] of telling.entries()) {
      const { from, message } = this.#options.seal.open('change', sealed) as SealedChange;
      // Redis may lose it before it can be read back.
      this.#known.set(sealed, { from, message, at: Number(times[index]) });
      // A change that was repeated meanwhile is announced again.
      if (this.#untold.get(text) === sealed) this.#untold.delete(text);
    }
    this.#keep();
  }

  #keep(): void {
    const untold = [...this.#untold].map(([change, sealed]) => ({ change, sealed }) satisfies Untold);
    this.#options.onUntold(JSON.stringify(untold));
  }

  /** The same text each time, so that announcing it again changes nothing. @throws LinkError */
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

  /** The time of the last known change. */
  get #latest(): number {
    return Math.max(this.#at, ...[...this.#known.values()].map(({ at }) => at));
  }

  /** The changes that replicas have announced. Foreign entries, and those moved to another time, are ignored. */
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

/** Identifies a change without opening it: it begins with its MAC. */
function markOf(sealed: string): string {
  return sealed.slice(0, 22);
}

/** Whether changes of that time are no longer kept; Redis may or may not have them. */
function isOver(at: number, now: number): boolean {
  return now - at > changesKeptMs;
}

/** The image that a command is about: of several commands about one, only the last counts. */
function imageOf({ kind, repository, reference }: Change): string {
  const about = kind === 'approve' || kind === 'reject' ? 'hold' : 'pin';
  return `${about}\n${repository}\n${reference}`;
}

const kinds: ReadonlySet<string> = new Set(['purge', 'pin', 'unpin', 'approve', 'reject'] satisfies Change['kind'][]);

/** Whether a message is kept for absent replicas. */
export function isChange(message: Message): message is Change {
  return kinds.has(message.kind);
}
