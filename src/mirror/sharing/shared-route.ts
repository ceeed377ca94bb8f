import type { Coordinator, Lease, Replica } from '../../coordination/coordinator.ts';
import { PeerFailure } from '../../coordination/peer-failure.ts';
import type { PeerAccess, PeerWant } from '../../coordination/peers.ts';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/error.ts';
import { findGiver } from '../../replicas/giver.ts';
import { accessTo, type Replicas } from '../../replicas/replicas.ts';
import type { Repository } from '../../upstream/repository.ts';
import { DirectRoute, type NextOptions, type Route, type Source, type SourceList } from '../fill/sources.ts';

/** How often the holder of a lease says that bytes arrive, in milliseconds: a third of the time a lease lives. */
const renewMs = 1_000;
/** How long an upstream may take for its first byte before the lease is given up, in milliseconds. */
const openingMs = 10_000;
/** How often one replica may fail for one blob before it is left alone. */
const patience = 2;
/** How often in a row one that has the lease may say nothing in time before it is left alone too. */
const maxSilences = 2;

export interface SharedRouteOptions {
  readonly digest: Digest;
  readonly sources: SourceList;
  /** The repository through which it is fetched, as the cache names it. */
  readonly through: string;
  /** How its upstream is reached: only replicas that reach it in the same way can vouch for it. */
  readonly access: () => Promise<string | undefined>;
  readonly coordinator: Coordinator;
  readonly peers: PeerAccess;
  /** Replicas that are to keep the blob, best first, without this one; empty if this one does. */
  readonly owners: readonly Replica[];
  /** Others that are to keep it beside this one. */
  readonly copies: readonly Replica[];
}

/** How a fill of a digest comes to its bytes. @param fill `isOwned`: another replica wants the blob to be kept here */
export function routeOf(
  replicas: Replicas,
  {
    digest,
    sources,
    repository,
    isOwned,
  }: {
    digest: Digest;
    sources: SourceList;
    repository: Repository;
    isOwned: boolean;
  },
): Route {
  const { coordinator, peers } = replicas;
  if (coordinator.isAlone || peers === undefined) return new DirectRoute(sources);
  const owners = replicas.owners(digest);
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

/**
 * One upstream request for all replicas: the replica that has the lease reads from the upstream, the others read from it or
 * from one that has all of the blob. After a failure the next replica is tried, and in the end the upstream itself.
 */
export class SharedRoute implements Route {
  readonly #options: SharedRouteOptions;
  readonly #failures = new Map<string, number>();
  readonly #silences = new Map<string, number>();
  /** Replicas that were read from because they had verified the blob. */
  readonly #holders = new Set<string>();
  #lease: Lease | undefined;
  #lost: AbortController | undefined;
  #renewing: NodeJS.Timeout | undefined;
  #openedAtMs = 0;
  #hasProgress = false;
  /** A lease of its own was taken from it: it takes none back. */
  #wasReplaced = false;
  #isFollowing = false;
  #isAlone = false;

  constructor(options: SharedRouteOptions) {
    this.#options = options;
  }

  get isKept(): boolean {
    return this.#options.owners.length === 0;
  }

  get isFollowing(): boolean {
    return this.#isFollowing;
  }

  get isServing(): boolean {
    return this.#lease !== undefined || this.#isFollowing || this.#isAlone;
  }

  async next(options: NextOptions, signal: AbortSignal): Promise<Source | undefined> {
    const { coordinator, digest } = this.#options;
    this.#isFollowing = false;
    if (this.#lease) return this.#upstream(options);
    const access = await this.#options.access();
    if (access === undefined) return this.#alone(options);
    const owner = this.#options.owners.find(({ id }) => this.#isUseful(id));
    if (owner) return this.#follow(owner, { want: 'fill', access });
    const giver = await findGiver({
      coordinator,
      digest,
      access,
      isUseful: (id) => this.#isUseful(id),
      isSlow: (id) => this.#isSlow(id),
      filling: 'followed',
      mayTakeOver: !this.#wasReplaced,
      signal,
    });
    if (giver.kind === 'replica') return this.#follow(giver.replica, { want: giver.want, access });
    if (giver.kind === 'alone') return this.#alone(options);
    this.#lead(giver.lease);
    return this.#upstream(options);
  }

  #alone(options: NextOptions): Source | undefined {
    this.#isAlone = true;
    return this.#upstream(options);
  }

  guard(source: Source): AbortSignal | undefined {
    return source.replica === undefined && this.#lease ? this.#lost?.signal : undefined;
  }

  async enter({ upstream, maxConnections }: Source, signal: AbortSignal): Promise<AsyncDisposable | undefined> {
    if (maxConnections === undefined) return undefined;
    return await this.#options.coordinator.enter(upstream, { max: maxConnections, signal });
  }

  received(): void {
    this.#hasProgress = true;
  }

  failed(source: Source, error: unknown): void {
    const { replica } = source;
    if (replica === undefined) {
      // The next attempt may take as long for its first byte as this one.
      this.#openedAtMs = performance.now();
      return;
    }
    const fault = error instanceof PeerFailure ? error.fault : undefined;
    const isGone = fault === 'unreachable' || fault === 'refused';
    const isCut = isGone && this.#hasProgress;
    const silences = this.#hasProgress ? 0 : (this.#silences.get(replica) ?? 0);
    this.#hasProgress = false;
    if (fault === 'silent') {
      this.#silences.set(replica, silences + 1);
      return;
    }
    // One that was cut in the middle may only have lost its connection: it is tried once more.
    this.#failures.set(replica, (this.#failures.get(replica) ?? 0) + (isGone && !isCut ? patience : 1));
  }

  wrongBytes(replicas: readonly Source[]): void {
    for (const { replica } of replicas) {
      if (replica === undefined) continue;
      this.#failures.set(replica, Number.POSITIVE_INFINITY);
      // A replica that passed on bytes of its own fill may have been given the same wrong ones.
      if (this.#holders.has(replica)) this.#options.peers.avoid(replica, 'wrong');
    }
  }

  async end(isStored: boolean): Promise<void> {
    const { coordinator, digest, copies, peers } = this.#options;
    clearInterval(this.#renewing);
    // The blob is announced before the lease is given back: a replica that asks in between finds one of the two.
    if (isStored) await coordinator.hold(digest);
    const lease = this.#lease;
    this.#lease = undefined;
    if (lease) await coordinator.release(lease);
    if (!isStored) return;
    for (const replica of copies) void peers.askToCopy(replica, digest, this.#options.through);
  }

  #isUseful(id: string): boolean {
    const faults = (this.#failures.get(id) ?? 0) + (this.#silences.get(id) ?? 0);
    return faults < patience && !this.#options.peers.isAvoided(id);
  }

  /** Whether all that is known against a replica is that it has not answered in time. */
  #isSlow(id: string): boolean {
    const silences = this.#silences.get(id) ?? 0;
    if ((this.#failures.get(id) ?? 0) >= patience || silences >= maxSilences) return false;
    return silences > 0 || this.#options.peers.isSlow(id);
  }

  #upstream(options: NextOptions): Source | undefined {
    return this.#options.sources.next({ ...options, withoutReplicas: true });
  }

  #follow(replica: Replica, { want, access }: { want: PeerWant; access: string }): Source {
    this.#isFollowing = true;
    this.#hasProgress = false;
    if (want === 'stored') this.#holders.add(replica.id);
    else this.#holders.delete(replica.id);
    const { through } = this.#options;
    const source: Source = {
      id: `replica ${replica.address}`,
      upstream: '',
      repository: '',
      replica: replica.id,
      connections: 1,
      open: async (digest, { offset, end, signal }) =>
        await this.#options.peers.open(replica, digest, { want, through, access, offset, end, signal }),
    };
    this.#options.sources.add([source]);
    return source;
  }

  #lead(lease: Lease): void {
    this.#lease = lease;
    this.#lost = new AbortController();
    this.#openedAtMs = performance.now();
    this.#hasProgress = false;
    clearInterval(this.#renewing);
    this.#renewing = setInterval(() => void this.#renew(lease), renewMs);
  }

  /** Says that bytes arrive, if they do: a lease without progress lapses, and another replica tries. Never rejects. */
  async #renew(lease: Lease): Promise<void> {
    const isOpening = performance.now() - this.#openedAtMs < openingMs;
    if (!this.#hasProgress && !isOpening) return;
    if (this.#hasProgress) this.#openedAtMs = Number.NEGATIVE_INFINITY;
    this.#hasProgress = false;
    const answer = await this.#options.coordinator.renew(lease);
    if (answer !== 'lost' || this.#lease !== lease) return;
    clearInterval(this.#renewing);
    this.#lease = undefined;
    this.#wasReplaced = true;
    this.#lost?.abort(new RegistryError('superseded', 'another replica fetches this blob now'));
  }
}
