import { LRUCache } from 'lru-cache';
import { hasReason, RegistryError } from '../oci/error.ts';
import type { ListingAnswer } from '../oci/listing.ts';
import { upTo } from '../oci/lru-bound.ts';
import { maxReadBytes, tagsOf } from '../oci/tag-pages.ts';
import { withDeadline } from '../waiting/deadline.ts';
import type { Repository } from './repository.ts';

/** Most pages of a registry that are read for one list. */
const maxPages = 100;
/** A registry with smaller pages is asked once for larger ones. */
const smallPage = 500;
const largePageQuery = 'n=1000';
/** How long a list is known to be too long, in milliseconds. */
const tooLongForMs = 10 * 60_000;

/** The part of a list that has been read. */
export interface TagRead {
  /** The first page, as the registry gave it. */
  readonly first: ListingAnswer | undefined;
  /** All tags, in byte order. */
  readonly tags: readonly string[] | undefined;
}

/** How a page of tags is asked of the upstream. @param query as the registry's own `Link` gave it; '' for the first page */
export type AskPage = (query: string, signal: AbortSignal) => Promise<ListingAnswer>;

/**
 * Whole lists of tags, in byte order, however their registry pages: by relative or absolute links, by names or opaque tokens, with
 * or without heeding `n`.
 */
export class WholeTags {
  readonly #tooLong: LRUCache<string, true>;
  readonly #refusesN = new LRUCache<string, true>(upTo(1_000));

  constructor() {
    this.#tooLong = new LRUCache({ ...upTo(1_000), ttl: tooLongForMs });
  }

  /**
   * Reads all pages.
   * @returns no `tags` if the list is too long, or its registry too slow, to be read whole for one answer; no `first` if that is
   *   known already
   * @throws RegistryError for the first page
   */
  async read(repository: Repository, ask: AskPage): Promise<TagRead> {
    const { key, upstream } = repository;
    const { answerMs } = upstream;
    if (this.#tooLong.has(key)) return { first: undefined, tags: undefined };
    const first = await withDeadline((within) => ask('', within), { answerMs });
    try {
      // The rest of the time is for passing on the page that was asked for.
      const readOn = (signal: AbortSignal) => this.#readOn(repository, { first, ask, signal });
      const tags = await withDeadline(readOn, { answerMs: answerMs / 2 });
      if (tags === undefined) this.#tooLong.set(key, true);
      return { first, tags };
    } catch (error) {
      if (!(error instanceof RegistryError)) throw error;
      if (hasReason(error, 'timeout')) this.#tooLong.set(key, true);
      return { first, tags: undefined };
    }
  }

  async #readOn(
    repository: Repository,
    { first, ask, signal }: { readonly first: ListingAnswer; readonly ask: AskPage; readonly signal: AbortSignal },
  ): Promise<readonly string[] | undefined> {
    const tags = new Set<string>();
    const asked = new Set<string>();
    let page = await this.#largerPage(repository, { first, ask, signal });
    for (let bytes = 0; asked.size <= maxPages; ) {
      bytes += page.bytes.length;
      const found = bytes > maxReadBytes ? undefined : tagsOf(page.bytes);
      if (found === undefined) return undefined;
      for (const tag of found) tags.add(tag);
      const { nextQuery } = page;
      // A registry that leads back to a page has no more.
      if (nextQuery === undefined || asked.has(nextQuery)) return [...tags].toSorted(byBytes);
      asked.add(nextQuery);
      page = await ask(nextQuery, signal);
    }
    return undefined;
  }

  /** The first page, larger where the registry lets it be. */
  async #largerPage(
    { upstream }: Repository,
    { first, ask, signal }: { readonly first: ListingAnswer; readonly ask: AskPage; readonly signal: AbortSignal },
  ): Promise<ListingAnswer> {
    if (first.bytes.length > maxReadBytes) return first;
    const tags = tagsOf(first.bytes) ?? [];
    if (first.nextQuery === undefined || tags.length >= smallPage || this.#refusesN.has(upstream.name)) return first;
    try {
      const larger = await ask(largePageQuery, signal);
      if ((tagsOf(larger.bytes) ?? []).length > tags.length) return larger;
    } catch (error) {
      if (!(error instanceof RegistryError) || hasReason(error, 'limited')) throw error;
    }
    this.#refusesN.set(upstream.name, true);
    return first;
  }
}

/** Two lists in byte order as one, each tag once. */
export function mergedTags(one: readonly string[], other: readonly string[]): readonly string[] {
  const known = new Set(one);
  const added = other.filter((tag) => !known.has(tag));
  return added.length === 0 ? one : [...one, ...added].toSorted(byBytes);
}

function byBytes(one: string, other: string): number {
  return one < other ? -1 : one > other ? 1 : 0;
}
