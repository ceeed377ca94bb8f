import { randomBytes, randomUUID } from 'node:crypto';
import { Changes, changesKeptMs, changesKey, isChange } from './changes.ts';
import type { RedisClock } from './clock.ts';
import type { Message, MessageListener, Replica } from './coordinator.ts';
import { announceScript, beatScript } from './fleet-scripts.ts';
import { Members, newReplicaId } from './members.ts';
import { type Position, readPosition } from './position.ts';
import type { Link } from './redis.ts';
import type { Seal } from './seal.ts';

const defaultBeatMs = 1_000;
/** For how many beats it is believed that a replica lives. */
const beatsBelieved = 5;
/** Most messages of one answer; the script's own number. */
const pageLength = 500;
/** How many of the last messages a new replica reads. */
const lookBack = 64;

interface SealedMessage {
  readonly from: string;
  readonly message: Message;
  /** By Redis's clock: sealed, so that an old entry cannot be presented as new. */
  readonly atMs: number;
}

/** The state that a replica keeps from one run to the next. */
export interface Membership {
  /** Identifies its disk; no two replicas share one. */
  readonly id: string;
  /** How far its last run had heard the others. */
  readonly position?: string | undefined;
  /** The changes that its last run could not announce. */
  readonly untold?: string | undefined;
  /** Called at once when that has changed: the next run has to be given it even if this one is killed. */
  readonly keepUntold?: ((untold: string) => void) | undefined;
}

export interface FleetOptions {
  readonly link: Link;
  readonly seal: Seal;
  /** Receives the time with every answer. */
  readonly clock: RedisClock;
  readonly wakeChannel: string;
  /** Whether this replica contacts no upstream. */
  readonly isOffline: boolean;
  /** Heartbeat interval, in milliseconds. Default 1 s. */
  readonly beatMs?: number | undefined;
  /** Called when other replicas have come or gone. */
  readonly onChange?: ((replicas: readonly Replica[]) => void) | undefined;
  /** Called when there are more changes that another secret has signed. */
  readonly onUnread?: ((count: number) => void) | undefined;
}

const keys = ['{fleet}', '{fleet}:messages', '{fleet}:expiries', changesKey, '{fleet}:news'] as const;

/**
 * The live replicas and their messages to each other: one call per second exchanges both. Only entries sealed with the
 * common secret are believed.
 */
export class Fleet {
  #self = '';
  readonly boot = randomBytes(9).toString('base64url');
  readonly #options: FleetOptions;
  #address = '';
  #entry = '';
  readonly #listeners = new Set<MessageListener>();
  readonly #members: Members;
  #others: readonly Replica[] = [];
  readonly #changes: Changes;
  #keepUntold: Membership['keepUntold'];
  #epoch = '';
  #seq = 0;
  #atMs = 0;
  /** Whether Redis has been asked in this run. */
  #hasLooked = false;
  #timer: NodeJS.Timeout | undefined;
  #beating: Promise<void> | undefined;
  #isWanted = false;
  #isEnding = false;

  constructor(options: FleetOptions) {
    this.#options = options;
    const { link, seal, clock, wakeChannel } = options;
    this.#members = new Members(seal);
    this.#changes = new Changes({
      link,
      seal,
      clock,
      wakeChannel,
      self: () => this.#self,
      onChange: (change, event) => {
        for (const listener of this.#listeners) listener.received(change, event);
      },
      onUnread: (count) => options.onUnread?.(count),
      onUntold: (untold) => this.#keepUntold?.(untold),
    });
  }

  get #beatMs(): number {
    return this.#options.beatMs ?? defaultBeatMs;
  }

  /** This replica's id; '' before it has joined. */
  get self(): string {
    return this.#self;
  }

  /** Identifies the content of Redis, since it was empty; '' before the first answer. */
  get epoch(): string {
    return this.#hasLooked ? this.#epoch : '';
  }

  /** Joins the replicas. @param address base URL at which others reach this one */
  join(address: string, { id, position, untold, keepUntold }: Membership): void {
    const last = position === undefined ? undefined : readPosition(position);
    if (last !== undefined) {
      this.#epoch = last.epoch;
      this.#seq = last.seq;
      this.#atMs = last.atMs;
      this.#changes.continueFrom({ at: last.changedAt, unread: last.unread });
    }
    if (untold !== undefined) this.#changes.takeUp(untold);
    this.#keepUntold = keepUntold;
    this.#address = address;
    this.#call(id);
    void this.beat();
  }

  /** How far this replica has heard the others; `undefined`: nothing yet. */
  get position(): string | undefined {
    if (this.#epoch === '') return undefined;
    const position: Position = {
      epoch: this.#epoch,
      seq: this.#seq,
      changedAt: this.#changes.at,
      atMs: this.#atMs,
      unread: this.#changes.unread,
    };
    return JSON.stringify(position);
  }

  /** The others, as of the last beat. */
  get replicas(): readonly Replica[] {
    return this.#others;
  }

  /** Another one; `undefined` where it is not there, or not one of us. */
  replica(id: string): Replica | undefined {
    return id === this.#self ? undefined : this.#members.find(id);
  }

  subscribe(listener: MessageListener): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  async announce(message: Message): Promise<void> {
    if (isChange(message)) return await this.#changes.announce(message);
    const { link, seal, clock, wakeChannel } = this.#options;
    const sealed = seal.close('message', { from: this.self, message, atMs: clock.nowMs } satisfies SealedMessage);
    await link.run(announceScript, keys.slice(0, 2), [randomUUID(), sealed, wakeChannel]);
  }

  /** Sends a heartbeat and reads news, periodically from now on. Never rejects. */
  async beat(): Promise<void> {
    if (this.#isEnding || this.self === '') return;
    if (this.#beating) {
      // The pending answer may lack what was just announced.
      this.#isWanted = true;
      return await this.#beating;
    }
    clearTimeout(this.#timer);
    this.#beating = this.#look().catch(() => undefined);
    await this.#beating;
    this.#beating = undefined;
    if (this.#isEnding) return;
    const again = this.#isWanted;
    this.#isWanted = false;
    this.#timer = setTimeout(() => void this.beat(), again ? 0 : this.#beatMs * (0.8 + Math.random() * 0.4));
  }

  /** Announces to the others that this replica leaves. */
  async leave(): Promise<void> {
    this.#isEnding = true;
    clearTimeout(this.#timer);
    await this.#beating;
    if (this.self === '') return;
    const { link } = this.#options;
    await link
      .run(beatScript, keys, [randomUUID(), this.self, '', 0, this.#members.version, this.#epoch, this.#seq, 0])
      .catch(() => undefined);
  }

  async #look(): Promise<void> {
    const { link, clock } = this.#options;
    const askedMs = performance.now();
    const wanted = this.#hasLooked ? 0 : lookBack;
    const known = [this.#members.version, this.#epoch, this.#seq, wanted];
    const values = [randomUUID(), this.self, this.#entry, beatsBelieved * this.#beatMs, ...known];
    const answer = (await link.run(beatScript, keys, values)) as [
      version: number,
      isAll: number,
      entries: string[],
      epoch: string,
      seq: number,
      now: number,
      messages: [id: string, fields: string[]][],
      count: number,
      last: string,
      before: string,
    ];
    const [version, isAll, entries, epoch, seq, now, messages, count, last, before] = answer;
    clock.hear(now, askedMs);
    if (this.#isShared(before)) {
      this.#call(newReplicaId());
      this.#isWanted = true;
    }
    if (this.#members.hear({ version, isAll: isAll === 1, entries })) {
      this.#others = this.#members.without(this.self);
      this.#options.onChange?.(this.#others);
    }
    const wasEmptied = this.#epoch !== '' && epoch !== this.#epoch;
    const wasLongAway = this.#atMs !== 0 && now - this.#atMs > changesKeptMs;
    const isFirst = !this.#hasLooked;
    if (wasEmptied) this.#changes.lost();
    this.#readMessages({ epoch, seq, now, messages });
    await this.#changes.catchUp({ count, last: Number(last), now });
    this.#atMs = now;
    // A replica that was present all the time has processed them, or the others announce them again.
    if (isFirst && (wasEmptied || wasLongAway || this.#changes.isCut)) this.#miss({ changes: true });
    await this.#changes.tell();
  }

  /** Announces this replica, sealed with the current secret. */
  reseal(): void {
    if (this.#self !== '') this.#call(this.#self);
  }

  #call(id: string): void {
    this.#self = id;
    const { seal, isOffline } = this.#options;
    const entry: Replica = { id, address: this.#address, boot: this.boot, isOffline };
    this.#entry = seal.close('replica', entry);
  }

  /**
   * Whether this replica has to take another id: one that runs too has the same, since one's directory is a copy of the
   * other's.
   * @param before what stood in the place of this one's entry
   */
  #isShared(before: string): boolean {
    if (!this.#hasLooked || before === this.#entry) return false;
    const other = this.#options.seal.open('replica', before) as Replica | undefined;
    // One of the two must change, and both see it.
    return other !== undefined && other.boot < this.boot;
  }

  #miss(lost: { readonly changes: boolean }): void {
    for (const listener of this.#listeners) listener.missed(lost);
  }

  #readMessages(news: {
    epoch: string;
    seq: number;
    now: number;
    messages: readonly (readonly [id: string, fields: string[]])[];
  }): void {
    const { epoch, seq, now, messages } = news;
    const knowsNothing = this.#epoch === '';
    const heard = knowsNothing ? seq : this.#seq;
    this.#hasLooked = true;
    // A Redis that was emptied, or messages that were thrown away before they were read.
    const hasGap =
      !knowsNothing && (epoch !== this.#epoch || (seq > heard && !(numberOf(messages[0]?.[0]) <= heard + 1)));
    this.#epoch = epoch;
    const last = messages.at(-1)?.[0];
    this.#seq = messages.length === pageLength && last !== undefined ? numberOf(last) : seq;
    if (this.#seq < seq) this.#isWanted = true;
    for (const [id, fields] of messages) this.#tell(fields, { now, isOld: hasGap || numberOf(id) <= heard });
    if (hasGap) this.#miss({ changes: false });
  }

  #tell(fields: readonly string[], { now, isOld }: { now: number; isOld: boolean }): void {
    const [, sealed] = fields;
    const opened = this.#options.seal.open('message', sealed) as SealedMessage | undefined;
    if (opened === undefined || opened.from === this.self) return;
    // An earlier run has heard an old message, or it has to be looked up anyway; but a pause that an upstream asked for may still last.
    if (isOld && opened.message.kind !== 'limit') return;
    const event = { from: opened.from, ageMs: Math.max(0, now - opened.atMs) };
    for (const listener of this.#listeners) listener.received(opened.message, event);
  }
}

function numberOf(streamId: string | undefined): number {
  return Number(streamId?.split('-', 1)[0] ?? Number.NaN);
}
