import { entryShown, type ShownEntry } from '../discovery/search/entry.ts';
import type { Search } from '../discovery/search/search.ts';
import { readSearch } from '../discovery/search/search-parameters.ts';
import type { HostedOwner } from '../http/hosted-owner.ts';
import { type ShownPage, searchJointly, shownPage } from '../http/joint-search.ts';
import type { SearchEvent, SearchParameters } from '../operations/protocol/search.ts';

/** Results at a time. */
const pageSize = 100;

/**
 * All that fits, for the operator of a replica whose hosted repositories another one keeps.
 * @throws RegistryError for a parameter that cannot be read; the signal's reason
 */
export async function* searchAtReplica(
  search: Search,
  { query: text, limit }: SearchParameters,
  { owner, signal, now }: { readonly owner: HostedOwner; readonly signal: AbortSignal; readonly now: () => number },
): AsyncGenerator<SearchEvent> {
  const mayRead = (): boolean => true;
  const { descending } = readSearch(new URLSearchParams(text), { nowMs: now() });
  await search.ready(signal);
  const own = async (parameters: URLSearchParams): Promise<ShownPage> => {
    const query = readSearch(parameters, { nowMs: now() });
    return shownPage(await search.page(query, { mayRead, signal }), query);
  };
  // The owner takes what a replica passes on without a caller for the replica's own.
  const exchange = { signal, caller: undefined, grants: undefined };
  let isAway = false;
  let next: string | undefined;
  for (let left = limit; left > 0; ) {
    const count = Math.min(pageSize, left);
    const parameters = new URLSearchParams(text);
    parameters.set('n', String(count));
    if (next !== undefined) parameters.set('next', next);
    const page = await searchJointly({ exchange, parameters, mayRead }, { owner, own, limit: count, descending });
    for (const result of page.results) yield { kind: 'found', ...entryShown(JSON.parse(result) as ShownEntry) };
    isAway ||= page.isAway;
    left -= page.results.length;
    next = page.next;
    if (next === undefined) break;
  }
  yield { kind: 'end', more: next !== undefined, ...(isAway && { ownerAway: true }) };
}
