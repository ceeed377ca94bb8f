import type { Lease, Replica } from '../coordination/coordinator.ts';
import { PeerFailure } from '../coordination/peer-failure.ts';
import { type Digest, digestAlgorithm, digestOf } from '../oci/digest.ts';
import type { ManifestAnswer } from '../upstream/client.ts';
import type { Repository } from '../upstream/repository.ts';
import { findGiver } from './giver.ts';
import { accessTo, type Replicas } from './replicas.ts';

/** Longest wait for a replica that fetches it, in milliseconds; a manifest takes one round trip. */
const patienceMs = 3_000;
/** Largest manifest taken from another replica, in bytes: what it holds has passed its own limit. */
const maxBytes = 64 * 1024 * 1024;

/** One replica's turn at a manifest; disposing gives the lease back. */
export interface ManifestTurn extends AsyncDisposable {
  /** The manifest of another replica; `undefined`: this one has to fetch it. */
  readonly answer: ManifestAnswer | undefined;
}

/** Manifests by digest, which cross the line to the upstream once for all replicas. */
export class SharedManifests {
  readonly #replicas: Replicas;

  constructor(replicas: Replicas) {
    this.#replicas = replicas;
  }

  /**
   * The manifest from another replica, or the right to fetch it. Its bytes are its digest's; the right to read it is the
   * caller's to check.
   * @throws the signal's reason
   */
  async fetch(repository: Repository, digest: Digest, signal: AbortSignal): Promise<ManifestTurn | undefined> {
    const { coordinator, peers } = this.#replicas;
    if (peers === undefined) return undefined;
    const access = await accessTo(repository.upstream, coordinator);
    if (access === undefined) return undefined;
    const awaitedUntilMs = performance.now() + patienceMs;
    const tried = new Set<string>();
    while (true) {
      const giver = await findGiver({
        coordinator,
        digest,
        access,
        isUseful: (id) => !tried.has(id) && !peers.isAvoided(id),
        isSlow: () => false,
        filling: { awaitedUntilMs },
        mayTakeOver: true,
        signal,
      });
      if (giver.kind === 'alone') return undefined;
      if (giver.kind === 'lease') return this.#turn(digest, { lease: giver.lease });
      tried.add(giver.replica.id);
      const answer = await this.#read(giver.replica, digest, { through: repository.key, access, signal });
      if (answer) return this.#turn(digest, { answer });
    }
  }

  /** The manifest is stored here: others can read it from this replica. */
  async announce(digest: Digest): Promise<void> {
    await this.#replicas.coordinator.hold(digest);
  }

  #turn(digest: Digest, { lease, answer }: { lease?: Lease; answer?: ManifestAnswer }): ManifestTurn {
    const { coordinator } = this.#replicas;
    return {
      answer,
      async [Symbol.asyncDispose]() {
        if (answer) await coordinator.hold(digest);
        if (lease) await coordinator.release(lease);
      },
    };
  }

  async #read(
    replica: Replica,
    digest: Digest,
    question: { through: string; access: string; signal: AbortSignal },
  ): Promise<ManifestAnswer | undefined> {
    const { peers } = this.#replicas;
    if (!peers) return undefined;
    try {
      const answer = await peers.open(replica, digest, { want: 'stored', offset: 0, ...question });
      const chunks: Buffer[] = [];
      let length = 0;
      for await (const chunk of answer.body) {
        length += chunk.length;
        if (length > maxBytes) return undefined;
        chunks.push(chunk);
      }
      const bytes = Buffer.concat(chunks);
      if (digestOf(bytes, digestAlgorithm(digest)) === digest)
        return { bytes, contentType: answer.contentType, digest };
      peers.avoid(replica.id, 'wrong');
      return undefined;
    } catch (error) {
      if (error instanceof PeerFailure) return undefined;
      throw error;
    }
  }
}
