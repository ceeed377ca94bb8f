import { parseJson } from '../oci/json.ts';
import type { ListingAnswer } from '../upstream/client.ts';
import type { Repository } from './repository.ts';

/** A list of tags that has more values is passed on as it came. */
const maxTags = 1_000_000;

interface PageQuery {
  /** The page begins behind this tag. */
  readonly last: string;
  /** Most tags on it. */
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
export function pageOf(repository: Repository, tags: readonly string[], query: string): ListingAnswer {
  const { last, n } = readQuery(query) ?? { last: '', n: Number.POSITIVE_INFINITY };
  // Registries sort in ways of their own: behind `last` is what comes after it in their own list.
  const place = tags.indexOf(last);
  const rest = place === -1 ? tags.filter((tag) => tag > last) : tags.slice(place + 1);
  const page = rest.slice(0, n);
  const more = n > 0 && rest.length > page.length;
  return {
    bytes: Buffer.from(JSON.stringify({ name: repository.name, tags: page })),
    contentType: 'application/json',
    nextQuery: more ? new URLSearchParams({ n: String(n), last: page.at(-1) ?? '' }).toString() : undefined,
    filtersApplied: undefined,
  };
}

/** The page that was asked for, where the upstream ignores `n` or `last` and answers with other tags as well. */
export function pagedHere(repository: Repository, answer: ListingAnswer, query: string): ListingAnswer {
  const wanted = readQuery(query);
  if (wanted === undefined || answer.nextQuery !== undefined) return answer;
  const tags = tagsOf(answer.bytes);
  const isIgnored = tags !== undefined && (tags.length > wanted.n || tags.includes(wanted.last));
  return isIgnored ? pageOf(repository, tags, query) : answer;
}

/** @returns `undefined` where it is too long, or is no list of tags */
export function tagsOf(bytes: Buffer): readonly string[] | undefined {
  try {
    const { tags } = parseJson(bytes, { maxValues: maxTags, maxDepth: 8 }) as {
      tags?: unknown;
    };
    return Array.isArray(tags) && tags.every((tag) => typeof tag === 'string') ? tags : undefined;
  } catch {
    return undefined;
  }
}
