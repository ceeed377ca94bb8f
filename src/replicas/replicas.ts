import type { Coordinator, Replica } from '../coordination/coordinator.ts';
import type { PeerAccess } from '../coordination/peers.ts';
import { ownersOf } from '../coordination/placement.ts';
import { SoloCoordinator } from '../coordination/solo.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import type { Upstream } from '../upstream/upstream.ts';

export interface ReplicasOptions {
  readonly coordinator: Coordinator;
  readonly peers: PeerAccess | undefined;
  /** How many replicas keep a blob; `undefined`: each one keeps what it serves. */
  readonly copies: number | undefined;
}

/** The other replicas, as far as the mirror has to do with them. */
export class Replicas {
  readonly coordinator: Coordinator;
  readonly peers: PeerAccess | undefined;
  readonly #copies: number | undefined;

  constructor({ coordinator, peers, copies }: ReplicasOptions) {
    this.coordinator = coordinator;
    this.peers = peers;
    this.#copies = copies;
  }

  /** No other replicas. */
  static none(): Replicas {
    const coordinator = new SoloCoordinator();
    return new Replicas({ coordinator, peers: undefined, copies: undefined });
  }

  /** Whether another one that can be asked says that it has a blob. */
  async have(digest: Digest): Promise<boolean> {
    const { coordinator, peers } = this;
    if (coordinator.isAlone || peers === undefined) return false;
    return (await coordinator.holders(digest)).some(({ id }) => !peers.isAvoided(id));
  }

  /** The replicas that are to keep a blob, this one or others, best first; empty: each one keeps what it serves. */
  owners(digest: Digest): Replica[] {
    if (this.#copies === undefined) return [];
    const { self, replicas } = this.coordinator;
    const all: Replica[] = [...replicas, { id: self, address: '', boot: '', isOffline: false }];
    const ids = ownersOf(
      digest,
      all.filter(({ isOffline }) => !isOffline).map(({ id }) => id),
      this.#copies,
    );
    return ids.flatMap((id) => all.filter((replica) => replica.id === id));
  }
}

/**
 * Identifies how an upstream is asked, for comparison with other replicas: its answers apply to all that ask it in the
 * same way.
 * @returns `undefined` if nothing is shared: without replicas, or if the credentials are unknown
 */
export async function accessTo(upstream: Upstream, coordinator: Coordinator): Promise<string | undefined> {
  if (coordinator.isAlone) return undefined;
  try {
    return await upstream.fingerprint((text) => coordinator.mark(text));
  } catch (error) {
    if (error instanceof RegistryError) return undefined;
    throw error;
  }
}
