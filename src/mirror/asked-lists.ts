import type { ListingAnswer } from '../oci/listing.ts';
import { accessTo } from '../replicas/replicas.ts';
import type { RememberedLists } from '../store/catalog/remembered-lists.ts';
import { type Staleness, stalenessOf } from '../upstream/freshness.ts';
import type { Repository } from '../upstream/repository.ts';
import { withDeadline } from '../waiting/deadline.ts';
import { SingleFlight } from '../waiting/single-flight.ts';
import type { Waiting } from './content.ts';
import type { Manifests } from './manifests.ts';
import type { Outcome } from './outcome.ts';
import type { MirrorParts } from './parts.ts';

export interface ListingsOptions
  extends Pick<MirrorParts, 'catalog' | 'questions' | 'coordinator' | 'offline' | 'now'> {
  readonly manifests: Manifests;
  readonly lists: RememberedLists;
}

/** A page of tags or referrers. */
export interface ListingReply extends ListingAnswer {
  readonly outcome: Outcome;
  /** Of a list that could not be confirmed: when the upstream gave it, and what the client is warned of. */
  readonly stale?: Staleness | undefined;
}

/** Lists that upstreams are asked for, and what they have answered before. */
export class AskedLists {
  readonly #options: ListingsOptions;
  /** Clients that ask for the same list at the same time share one request and one copy of the answer. */
  readonly #requests = new SingleFlight<ListingAnswer | undefined>();

  constructor(options: ListingsOptions) {
    this.#options = options;
  }

  /** Asks the upstream once for all clients that want the same list now, and remembers its answer. */
  async ask(
    repository: Repository,
    name: string,
    request: { signal: AbortSignal; ask: (signal: AbortSignal) => Promise<ListingAnswer | undefined> },
  ): Promise<ListingAnswer | undefined> {
    const { answerMs } = repository.upstream;
    return await this.#requests.run(
      name,
      async () => {
        const answer = await withDeadline(request.ask, { answerMs });
        if (answer) await this.remember(repository, name, answer);
        return answer;
      },
      request,
    );
  }

  /**
   * What the upstream said when it could answer, to this replica or another one, for as long as a tag may be served past
   * its time.
   */
  async recall(
    repository: Repository,
    name: string,
    { error, signal }: Waiting & { error: unknown },
  ): Promise<(ListingReply & { stale: Staleness }) | undefined> {
    const { lists, questions } = this.#options;
    const { tagTtlMs, staleIfErrorMs } = repository.upstream.freshness;
    const mostMs = tagTtlMs + staleIfErrorMs;
    const own = lists.get(name);
    const found = own && own.ageMs <= mostMs ? own : await questions.list(repository, name, { signal });
    if (found === undefined || found.ageMs > mostMs) return undefined;
    const stale = stalenessOf(repository.upstream.name, Math.floor(found.ageMs / 1000), error);
    return { ...found.answer, outcome: 'stale', stale };
  }

  /** Keeps an answer for the time when the upstream cannot give one. @param name as {@link nameOf} gives it */
  async remember(repository: Repository, name: string, answer: ListingAnswer): Promise<void> {
    const { lists, coordinator } = this.#options;
    lists.remember(name, { ...answer, access: await accessTo(repository.upstream, coordinator) });
  }
}

/** The key of a remembered list. */
export function nameOf(what: string, { repository, query }: { repository: Repository; query: string }): string {
  const parameters = new URLSearchParams(query);
  parameters.sort();
  return `${repository.key} ${what} ${parameters.toString()}`;
}

/** The upstream has never been asked for the list: a part of it is stored, and the client has to know. */
export function onlyHere({ ageSeconds, warning }: Staleness): Staleness {
  return { ageSeconds, warning: `only what is stored here is listed; ${warning}`.slice(0, 250) };
}
