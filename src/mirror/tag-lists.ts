import { LRUCache } from 'lru-cache';
import { isTransient, RegistryError } from '../oci/error.ts';
import type { ListingAnswer } from '../oci/listing.ts';
import { pagedHere, pageOf, tagsOf } from '../oci/tag-pages.ts';
import { stalenessOf } from '../upstream/freshness.ts';
import type { Repository } from '../upstream/repository.ts';
import { mergedTags, type TagRead, WholeTags } from '../upstream/whole-tags.ts';
import { SingleFlight } from '../waiting/single-flight.ts';
import { type AskedLists, type ListingReply, type ListingsOptions, nameOf, onlyHere } from './asked-lists.ts';
import type { Waiting } from './content.ts';

/** Memory for whole lists between their pages, in characters of their tags. */
const keptCharacters = 8 * 1024 * 1024;

interface KeptTags {
  readonly tags: readonly string[];
  readonly readAtMs: number;
}

/**
 * Tags of repositories: those of the upstream together with those that were confirmed here a moment ago, in byte order and in
 * pages made here, whatever the upstream does. A list that is too long for that is passed on page by page.
 */
export class TagLists {
  readonly #options: ListingsOptions & { readonly asked: AskedLists };
  readonly #whole = new WholeTags();
  readonly #reads = new SingleFlight<TagRead>();
  /** Whole lists, so that not each page costs all requests. */
  readonly #kept = new LRUCache<string, KeptTags>({
    maxSize: keptCharacters,
    sizeCalculation: ({ tags }) => tags.reduce((sum, tag) => sum + tag.length + 16, 1),
  });

  constructor(options: ListingsOptions & { readonly asked: AskedLists }) {
    this.#options = options;
  }

  /**
   * @param query the client's query string without what selects the upstream
   * @throws RegistryError NAME_UNKNOWN, DENIED, TOOMANYREQUESTS, UNAVAILABLE
   */
  async page(repository: Repository, query: string, { signal }: Waiting): Promise<ListingReply> {
    if (this.#options.offline) return this.#stored(repository, query, offlineError(repository));
    const parameters = [...new URLSearchParams(query).keys()];
    // A token of the upstream is for the upstream alone.
    const isToken = parameters.some((name) => name !== 'n' && name !== 'last');
    try {
      if (isToken) return await this.#passedOn(repository, query, signal);
      const kept = parameters.includes('last') ? this.#recent(repository) : undefined;
      if (kept) return { ...pageOf(kept, { name: repository.name, query }), outcome: 'hit' };
      return await this.#asked(repository, query, signal);
    } catch (error) {
      if (!isTransient(error)) throw error;
      return await this.#remembered(repository, query, { error, signal });
    }
  }

  async #asked(repository: Repository, query: string, signal: AbortSignal): Promise<ListingReply> {
    const { first, tags } = await this.#read(repository, signal);
    if (tags === undefined) {
      const isFirst = first !== undefined && query === '';
      return isFirst ? { ...first, outcome: 'bypass' } : await this.#passedOn(repository, query, signal);
    }
    const { catalog, now } = this.#options;
    const sinceMs = now() - repository.upstream.freshness.tagTtlMs;
    const all = mergedTags(tags, catalog.tags.confirmedNames(repository.key, sinceMs));
    this.#kept.set(repository.key, { tags: all, readAtMs: now() });
    return { ...pageOf(all, { name: repository.name, query }), outcome: 'bypass' };
  }

  /** Reads the list once for all who want it now, and remembers it. */
  async #read(repository: Repository, signal: AbortSignal): Promise<TagRead> {
    const { asked } = this.#options;
    const { name, upstream } = repository;
    const ask = (query: string, within: AbortSignal): Promise<ListingAnswer> =>
      upstream.client.listTags(name, query, { signal: within });
    return await this.#reads.run(
      repository.key,
      async () => {
        const read = await this.#whole.read(repository, ask);
        const { first, tags } = read;
        const answer = tags === undefined ? first : pageOf(tags, { name, query: '' });
        if (answer) await asked.remember(repository, nameOf('tags', { repository, query: '' }), answer);
        return read;
      },
      { signal },
    );
  }

  #recent(repository: Repository): readonly string[] | undefined {
    const kept = this.#kept.get(repository.key);
    const ageMs = kept && this.#options.now() - kept.readAtMs;
    return ageMs !== undefined && ageMs <= repository.upstream.freshness.tagTtlMs ? kept?.tags : undefined;
  }

  /** The page that the upstream gives. */
  async #passedOn(repository: Repository, query: string, signal: AbortSignal): Promise<ListingReply> {
    const answer = await this.#options.asked.ask(repository, nameOf('tags', { repository, query }), {
      signal,
      ask: (within) => repository.upstream.client.listTags(repository.name, query, { signal: within }),
    });
    return { ...pagedHere(answer!, { name: repository.name, query }), outcome: 'bypass' };
  }

  async #remembered(
    repository: Repository,
    query: string,
    { error, signal }: Waiting & { readonly error: unknown },
  ): Promise<ListingReply> {
    const { asked } = this.#options;
    const { name } = repository;
    const page = await asked.recall(repository, nameOf('tags', { repository, query }), { error, signal });
    if (page) return { ...page, ...pagedHere(page, { name, query }) };
    const whole = await asked.recall(repository, nameOf('tags', { repository, query: '' }), { error, signal });
    const listed = whole && whole.nextQuery === undefined ? tagsOf(whole.bytes) : undefined;
    if (whole && listed) return { ...whole, ...pageOf(listed, { name, query }) };
    return this.#stored(repository, query, error);
  }

  #stored(repository: Repository, query: string, error: unknown): ListingReply {
    const { catalog, offline } = this.#options;
    // A tag that was only asked about cannot be pulled.
    const tags = catalog.tags.storedNames(repository.key);
    if (tags.length === 0) throw error;
    const page = pageOf(tags, { name: repository.name, query });
    if (offline) return { ...page, outcome: 'hit' };
    return { ...page, outcome: 'stale', stale: onlyHere(stalenessOf(repository.upstream.name, 0, error)) };
  }
}

function offlineError(repository: Repository): RegistryError {
  return new RegistryError('offline', `this mirror is offline and has stored no tag of ${repository.key}`, {
    code: 'NAME_UNKNOWN',
  });
}
