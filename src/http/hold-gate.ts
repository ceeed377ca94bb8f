import type { HoldStore } from '../holds/hold-store.ts';
import type { Digest } from '../oci/digest.ts';
import type { Rights } from './callers.ts';
import type { Exchange } from './exchange.ts';

/** Sent by a replica that asks for a client: the owner says what the client may not have yet, to a HEAD as well. */
export const holdHeader = 'millpond-hold';

/** Keeps manifests from those who pull, as long as they are held for a scanner. */
export class HoldGate {
  readonly #holds: HoldStore;
  readonly #rights: Rights;

  constructor(holds: HoldStore, rights: Rights) {
    this.#holds = holds;
    this.#rights = rights;
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
    // What another replica keeps is held there.
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
