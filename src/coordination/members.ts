import { randomBytes } from 'node:crypto';
import type { Replica } from './coordinator.ts';
import type { Seal } from './seal.ts';

/** A new id of a replica. */
export function newReplicaId(): string {
  return randomBytes(12).toString('base64url');
}

/** The members that Redis reports. */
export interface MemberNews {
  readonly version: number;
  /** Whether these are all replicas; otherwise those that have joined, changed or left since the previous version. */
  readonly isAll: boolean;
  /** Ids and sealed entries, alternating; '' for a replica that has left. */
  readonly entries: readonly string[];
}

/** The replicas of the fleet, including this one, that have proved to share the secret. */
export class Members {
  readonly #seal: Seal;
  readonly #byId = new Map<string, Replica>();
  #version = 0;

  constructor(seal: Seal) {
    this.#seal = seal;
  }

  /** The version up to which news has been processed; 0: none. */
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
