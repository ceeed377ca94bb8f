import type { Coordinator, Replica } from '../coordination/coordinator.ts';
import type { PeerAccess } from '../coordination/peers.ts';
import { ownersOf } from '../coordination/placement.ts';
import { SoloCoordinator } from '../coordination/solo.ts';
import { accessTo } from '../mirror/access.ts';
import { DirectRoute, type Route } from '../mirror/fill/route.ts';
import type { SourceList } from '../mirror/fill/sources.ts';
import { SharedRoute } from '../mirror/sharing/shared-route.ts';
import type { Digest } from '../oci/digest.ts';
import type { Repository } from '../upstream/repository.ts';

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

  /** How a fill of a digest comes to its bytes. @param options `isOwned`: another replica wants it to be kept here */
  route(
    digest: Digest,
    sources: SourceList,
    { repository, isOwned }: { repository: Repository; isOwned: boolean },
  ): Route {
    const { coordinator, peers } = this;
    if (coordinator.isAlone || peers === undefined) return new DirectRoute(sources);
    const owners = this.#owners(digest);
    const isOurs = isOwned || owners.some(({ id }) => id === coordinator.self);
    const others = owners.filter(({ id }) => id !== coordinator.self);
    return new SharedRoute({
      digest,
      sources,
      through: repository.key,
      access: () => accessTo(repository.upstream, coordinator),
      coordinator,
      peers,
      owners: isOurs ? [] : others,
      copies: isOurs ? others : [],
    });
  }

  /** Whether another one that can be asked says that it has a blob. */
  async have(digest: Digest): Promise<boolean> {
    const { coordinator, peers } = this;
    if (coordinator.isAlone || peers === undefined) return false;
    return (await coordinator.holders(digest)).some(({ id }) => !peers.isAvoided(id));
  }

  #owners(digest: Digest): Replica[] {
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
