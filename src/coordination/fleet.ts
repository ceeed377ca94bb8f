import { createHash, randomBytes, randomUUID } from 'node:crypto';
import type { Message, MessageListener, Replica } from './coordinator.ts';
import type { Link } from './redis.ts';
import { announceScript, beatScript } from './scripts.ts';
import type { Seal } from './seal.ts';

/** How often a replica says that it lives, and for how long it is believed, in milliseconds. */
const beatMs = 1_000;
const livesMs = 5_000;
/** Most messages of one answer; the script's own number. */
const pageLength = 500;

export interface FleetOptions {
  readonly link: Link;
  readonly seal: Seal;
  readonly wakeChannel: string;
  /** Called when other replicas have come or gone. */
  readonly onChange?: ((replicas: readonly Replica[]) => void) | undefined;
}

const keys = ['{fleet}', '{fleet}:messages', '{fleet}:expiries'] as const;

/** The id of the replica at an address: the same after a restart, since the disk is the same too. */
export function replicaId(address: string): string {
  return createHash('sha256').update(address).digest('base64url').slice(0, 16);
}

/**
 * Who is there, and what they tell one another: one question a second answers both. Only entries sealed with the common
 * secret are believed.
 */
export class Fleet {
  #self = '';
  readonly boot = randomBytes(9).toString('base64url');
  readonly #options: FleetOptions;
  #entry = '';
  readonly #listeners = new Set<MessageListener>();
  #others: readonly Replica[] = [];
  #version = '';
  #epoch = '';
  #seq = 0;
  #timer: NodeJS.Timeout | undefined;
  #beating: Promise<void> | undefined;
  #isWanted = false;
  #isEnding = false;

  constructor(options: FleetOptions) {
    this.#options = options;
  }

  /** This replica's id; '' before it has joined. */
  get self(): string {
    return this.#self;
  }

  /** Is one of the replicas from now on. @param address base URL at which others reach this one */
  join(address: string): void {
    this.#self = replicaId(address);
    this.#entry = this.#options.seal.close('replica', { id: this.self, address, boot: this.boot });
    void this.beat();
  }

  /** The others, as of the last beat. */
  get replicas(): readonly Replica[] {
    return this.#others;
  }

  /** Of this replica or another one; `undefined` for one that is not there, or not of us. */
  replica(id: string): Replica | undefined {
    return this.#others.find((replica) => replica.id === id);
  }

  subscribe(listener: MessageListener): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  async announce(message: Message): Promise<void> {
    const { link, seal, wakeChannel } = this.#options;
    const sealed = seal.close('message', { from: this.self, message });
    await link.run(announceScript, keys.slice(0, 2), [randomUUID(), sealed, wakeChannel]);
  }

  /** Says that this replica lives and looks what is new; again and again from now on. Never rejects. */
  async beat(): Promise<void> {
    if (this.#isEnding || this.self === '') return;
    if (this.#beating) {
      // What has just been told may not be in the answer under way.
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
    this.#timer = setTimeout(() => void this.beat(), again ? 0 : beatMs * (0.8 + Math.random() * 0.4));
  }

  /** Tells the others that this replica is gone. */
  async leave(): Promise<void> {
    this.#isEnding = true;
    clearTimeout(this.#timer);
    await this.#beating;
    if (this.self === '') return;
    const { link } = this.#options;
    await link
      .run(beatScript, keys, [randomUUID(), this.self, '', 0, '', this.#epoch, this.#seq])
      .catch(() => undefined);
  }

  async #look(): Promise<void> {
    const { link } = this.#options;
    const values = [randomUUID(), this.self, this.#entry, livesMs, this.#version, this.#epoch, this.#seq];
    const [version, entries, epoch, seq, now, messages] = (await link.run(beatScript, keys, values)) as [
      string,
      string[] | null,
      string,
      number,
      number,
      [id: string, fields: string[]][],
    ];
    this.#version = version;
    if (entries) this.#readReplicas(entries);
    this.#readMessages({ epoch, seq, now, messages });
  }

  #readReplicas(entries: readonly string[]): void {
    const { seal, onChange } = this.#options;
    const others: Replica[] = [];
    for (let index = 0; index + 1 < entries.length; index += 2) {
      const entry = seal.open('replica', entries[index + 1]) as Replica | undefined;
      if (entry === undefined || entry.id !== entries[index] || entry.id !== replicaId(entry.address)) continue;
      if (entry.id !== this.self) others.push({ id: entry.id, address: entry.address, boot: entry.boot });
    }
    this.#others = others.toSorted((one, other) => one.id.localeCompare(other.id));
    onChange?.(this.#others);
  }

  #readMessages(news: {
    epoch: string;
    seq: number;
    now: number;
    messages: readonly (readonly [id: string, fields: string[]])[];
  }): void {
    const { epoch, seq, now, messages } = news;
    const isFirst = this.#epoch === '';
    // A Redis that was emptied, or messages that were thrown away before they were read.
    const hasGap =
      !isFirst && (epoch !== this.#epoch || (seq > this.#seq && numberOf(messages[0]?.[0]) !== this.#seq + 1));
    this.#epoch = epoch;
    if (hasGap) {
      this.#seq = seq;
      for (const listener of this.#listeners) listener.missed();
      return;
    }
    for (const [, fields] of messages) this.#tell(fields, { now, isFirst });
    const last = messages.at(-1)?.[0];
    this.#seq = messages.length === pageLength && last !== undefined ? numberOf(last) : seq;
    if (this.#seq < seq) this.#isWanted = true;
  }

  #tell(fields: readonly string[], { now, isFirst }: { now: number; isFirst: boolean }): void {
    const [, sealed, , at] = fields;
    const opened = this.#options.seal.open('message', sealed) as { from: string; message: Message } | undefined;
    if (opened === undefined || opened.from === this.self) return;
    // Who has just come has missed nothing, but a pause that was asked for may still last.
    if (isFirst && opened.message.kind !== 'limit') return;
    const event = { from: opened.from, ageMs: Math.max(0, now - Number(at)) };
    for (const listener of this.#listeners) listener.received(opened.message, event);
  }
}

function numberOf(streamId: string | undefined): number {
  return Number(streamId?.split('-', 1)[0] ?? Number.NaN);
}
