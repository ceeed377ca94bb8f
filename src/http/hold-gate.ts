import type { HoldStore } from '../holds/hold-store.ts';
import type { Digest } from '../oci/digest.ts';
import type { Exchange } from './exchange.ts';
import type { Rights } from './rights.ts';

/** Sent by a replica that asks for a client: the owner says what the client may not have yet, to a HEAD as well. */
export const holdHeader = 'millpond-hold';

/** With the digest of a manifest that is held, for the replica that asks. */
export const heldHeader = 'Millpond-Held';

/** Refuses pulls of manifests that are held for a scanner. */
export class HoldGate {
  readonly #holds: HoldStore;
  readonly #rights: Rights;

  constructor(holds: HoldStore, rights: Rights) {
    this.#holds = holds;
    this.#rights = rights;
  }

  /** Whether anything is held. */
  get isOn(): boolean {
    return this.#holds.isOn;
  }

  /** Whether a manifest is held, for any client. */
  isHeld(repository: string, digest: Digest): boolean {
    return this.#holds.isOn && this.#holds.state(repository, digest).kind !== 'free';
  }

  /**
   * @param manifest `isKnown`: it was on this disk already
   * @throws RegistryError DENIED (403) where it is held and the caller is neither a scanner nor one who pushes
   */
  require(
    exchange: Exchange,
    {
      repository,
      digest,
      isKnown,
    }: { readonly repository: string; readonly digest: Digest; readonly isKnown: boolean },
  ): void {
    // Content that another replica keeps is held there.
    if (!this.#holds.isOn || repository.startsWith('_')) return;
    try {
      this.#holds.require(repository, digest, { isKnown });
    } catch (error) {
      if (!this.#isExempt(exchange, repository)) throw error;
    }
  }

  #isExempt(exchange: Exchange, repository: string): boolean {
    if (exchange.caller === undefined) return false;
    return (['administer', 'push'] as const).some((action) => this.#rights.may(exchange, action, repository));
  }
}
