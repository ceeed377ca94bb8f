import { memberOf, parseJson } from './json.ts';
import type { ListingAnswer } from './listing.ts';

/** A tag list with more values is passed on unchanged. */
const maxTags = 1_000_000;
/** Longer lists are passed on as their registry gives them: to read them would delay other requests. In bytes. */
export const maxReadBytes = 1024 * 1024;

/** A request for the tags of a repository. */
export interface ListRequest {
  /** The repository's name. */
  readonly name: string;
  /** The query string without `?`. */
  readonly query: string;
}

interface PageQuery {
  /** The page begins after this tag. */
  readonly last: string;
  /** Maximum number of tags on the page. */
  readonly n: number;
}

function readQuery(query: string): PageQuery | undefined {
  const parameters = new URLSearchParams(query);
  const n = parameters.get('n') ?? '';
  const last = parameters.get('last') ?? '';
  if (!/^\d+$/.test(n) && last === '') return undefined;
  return { last, n: /^\d+$/.test(n) ? Number(n) : Number.POSITIVE_INFINITY };
}

/** A page of tags, as the distribution-spec pages them: `last` is exclusive, `n` a limit. */
export function pageOf(tags: readonly string[], { name, query }: ListRequest): ListingAnswer {
  const { last, n } = readQuery(query) ?? { last: '', n: Number.POSITIVE_INFINITY };
  // Registries sort in ways of their own: after `last` comes what follows it in their own list.
  const place = tags.indexOf(last);
  const rest = place === -1 ? tags.filter((tag) => tag > last) : tags.slice(place + 1);
  const page = rest.slice(0, n);
  const more = n > 0 && rest.length > page.length;
  return {
    bytes: Buffer.from(JSON.stringify({ name, tags: page })),
    contentType: 'application/json',
    nextQuery: more ? new URLSearchParams({ n: String(n), last: page.at(-1) ?? '' }).toString() : undefined,
    filtersApplied: undefined,
  };
}

/**
 * The page that was asked for, where the upstream ignores `n` or `last` and answers with other tags as well; a list that
 * is too long to be read for one answer is left as it is.
 */
export function pagedHere(answer: ListingAnswer, request: ListRequest): ListingAnswer {
  const wanted = readQuery(request.query);
  const isPassedOn = answer.nextQuery !== undefined || answer.bytes.length > maxReadBytes;
  if (wanted === undefined || isPassedOn) return answer;
  const tags = tagsOf(answer.bytes);
  const isIgnored = tags !== undefined && (tags.length > wanted.n || tags.includes(wanted.last));
  return isIgnored ? pageOf(tags, request) : answer;
}

/** @returns `undefined` where it is too long, or is no list of tags */
export function tagsOf(bytes: Buffer): readonly string[] | undefined {
  try {
    const tags = memberOf(parseJson(bytes, { maxValues: maxTags, maxDepth: 8 }) as object, 'tags');
    // Go's encoder writes `null` for an empty list, or leaves it out.
    if (tags === null || tags === undefined) return [];
    return Array.isArray(tags) && tags.every((tag) => typeof tag === 'string') ? tags : undefined;
  } catch {
    return undefined;
  }
}
