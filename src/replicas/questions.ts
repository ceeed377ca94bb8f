import type { Replica } from '../coordination/coordinator.ts';
import type { Digest } from '../oci/digest.ts';
import type { Repository } from '../upstream/repository.ts';
import { SingleFlight } from '../waiting/single-flight.ts';
import {
  type LentList,
  type LentRight,
  type LentTag,
  type ReplicaQuestion,
  readLentList,
  readLentRight,
  readLentTag,
} from './question.ts';
import { accessTo, type Replicas } from './replicas.ts';

/** Maximum replicas asked one question. */
const maxAsked = 16;
/** Maximum wait for their answers, in milliseconds: a replica that says nothing until then is left alone for a while. */
const patienceMs = 3_500;

/**
 * Asks the other replicas what an upstream has told them. Only those that ask the upstream in the same way answer, so
 * their word stands for the upstream's own. Nothing here throws but the signal's reason.
 */
export class ReplicaQuestions {
  readonly #replicas: Replicas;
  readonly #flights = new SingleFlight<unknown[]>();

  constructor(replicas: Replicas) {
    this.#replicas = replicas;
  }

  /** The record of a tag, as the upstream last confirmed it to any of them. */
  async tag(
    repository: Repository,
    { tag, variant, signal }: { readonly tag: string; readonly variant: string; readonly signal: AbortSignal },
  ): Promise<(LentTag & { readonly access: string }) | undefined> {
    const access = await this.#access(repository);
    if (access === undefined) return undefined;
    const answers = await this.#ask(this.#replicas.coordinator.replicas, {
      question: { kind: 'tag', through: repository.key, access, tag, variant },
      signal,
    });
    const [youngest] = answers.flatMap((answer) => readLentTag(answer) ?? []).toSorted((a, b) => a.ageMs - b.ageMs);
    return youngest && { ...youngest, access };
  }

  /**
   * Whether the upstream has confirmed a digest in a repository to any of them.
   * @param options `amongHolders`: asks only those that say they have the content
   */
  async right(
    repository: Repository,
    digest: Digest,
    { amongHolders, signal }: { readonly amongHolders: boolean; readonly signal: AbortSignal },
  ): Promise<(LentRight & { readonly access: string }) | undefined> {
    const access = await this.#access(repository);
    if (access === undefined) return undefined;
    const { coordinator } = this.#replicas;
    const asked = amongHolders ? await coordinator.holders(digest) : coordinator.replicas;
    const answers = await this.#ask(asked, {
      question: { kind: 'right', through: repository.key, access, digest },
      signal,
    });
    const rights = answers.flatMap((answer) => readLentRight(answer) ?? []);
    const right = rights.find(({ isShown }) => isShown) ?? rights[0];
    return right && { ...right, access };
  }

  /** The youngest list of a name that any of them was given. */
  async list(
    repository: Repository,
    name: string,
    { signal }: { readonly signal: AbortSignal },
  ): Promise<LentList | undefined> {
    const access = await this.#access(repository);
    if (access === undefined) return undefined;
    const answers = await this.#ask(this.#replicas.coordinator.replicas, {
      question: { kind: 'list', through: repository.key, access, name },
      signal,
    });
    const [youngest] = answers.flatMap((answer) => readLentList(answer) ?? []).toSorted((a, b) => a.ageMs - b.ageMs);
    return youngest;
  }

  async #access(repository: Repository): Promise<string | undefined> {
    const { coordinator, peers } = this.#replicas;
    return peers === undefined ? undefined : await accessTo(repository.upstream, coordinator);
  }

  /** @throws the signal's reason */
  async #ask(
    replicas: readonly Replica[],
    { question, signal }: { readonly question: ReplicaQuestion; readonly signal: AbortSignal },
  ): Promise<unknown[]> {
    const { peers } = this.#replicas;
    const asked = replicas.filter(({ id }) => peers?.isAvoided(id) === false).slice(0, maxAsked);
    if (asked.length === 0 || peers === undefined) return [];
    const work = async (): Promise<unknown[]> => {
      const within = AbortSignal.timeout(patienceMs);
      return await Promise.all(asked.map((replica) => peers.ask(replica, { ...question }, within)));
    };
    return await this.#flights.run(JSON.stringify([question, asked.map(({ id }) => id)]), work, { signal });
  }
}
