import { entryShown, type ShownEntry } from '../../discovery/search/entry.ts';
import type { Search } from '../../discovery/search/search.ts';
import { readSearch } from '../../discovery/search/search-parameters.ts';
import type { SearchEvent, SearchParameters } from '../protocol/search.ts';

/** Results at a time. */
const pageSize = 100;

/** All that fits, for the operator: whatever a caller may read. @throws RegistryError for a parameter that cannot be read */
export async function* searchEverything(
  search: Search,
  { query: text, limit }: SearchParameters,
  { signal, now }: { readonly signal: AbortSignal; readonly now: () => number },
): AsyncGenerator<SearchEvent> {
  const query = readSearch(new URLSearchParams(text), { nowMs: now() });
  await search.ready(signal);
  let { after } = query;
  for (let left = limit; left > 0; ) {
    const searcher = { mayRead: () => true, signal };
    const { entries, next } = await search.page({ ...query, after, limit: Math.min(pageSize, left) }, searcher);
    for (const { json } of entries) yield { kind: 'found', ...entryShown(JSON.parse(json) as ShownEntry) };
    left -= entries.length;
    after = next;
    if (next === undefined) break;
  }
  yield { kind: 'end', more: after !== undefined };
}
