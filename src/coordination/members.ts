import { randomBytes } from 'node:crypto';
import type { Replica } from './coordinator.ts';
import type { Seal } from './seal.ts';

/** A new id of a replica. */
export function newReplicaId(): string {
  return randomBytes(12).toString('base64url');
}

/** What Redis tells about who is there. */
export interface MemberNews {
  readonly version: number;
  /** Whether these are all; otherwise those that have come, changed or gone since the version before. */
  readonly isAll: boolean;
  /** Ids and sealed entries in turn; '' for one that has gone. */
  readonly entries: readonly string[];
}

/** The replicas of the fleet, this one too, as far as they have proved to be ours. */
export class Members {
  readonly #seal: Seal;
  readonly #byId = new Map<string, Replica>();
  #version = 0;

  constructor(seal: Seal) {
    this.#seal = seal;
  }

  /** Up to here the news have been heard; 0: not at all. */
  get version(): number {
    return this.#version;
  }

  find(id: string): Replica | undefined {
    return this.#byId.get(id);
  }

  /** All of them but one, in the order of their ids. */
  without(id: string): Replica[] {
    return [...this.#byId.values()]
      .filter((replica) => replica.id !== id)
      .toSorted((one, other) => (one.id < other.id ? -1 : 1));
  }

  /** @returns whether anything has changed */
  hear({ version, isAll, entries }: MemberNews): boolean {
    this.#version = version;
    if (isAll) this.#byId.clear();
    for (let index = 0; index + 1 < entries.length; index += 2) {
      const [id = '', sealed = ''] = [entries[index], entries[index + 1]];
      const entry = this.#seal.open('replica', sealed) as (Omit<Replica, 'isOffline'> & Partial<Replica>) | undefined;
      if (entry === undefined || entry.id !== id) this.#byId.delete(id);
      else {
        const { address, boot, isOffline = false } = entry;
        this.#byId.set(id, { id, address, boot, isOffline });
      }
    }
    return isAll || entries.length > 0;
  }
}
