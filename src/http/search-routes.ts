import type { FoundEntry } from '../discovery/search/entry.ts';
import type { Search } from '../discovery/search/search.ts';
import { readSearch, writePosition } from '../discovery/search/search-parameters.ts';
import { artifactTypes } from '../oci/artifact-types.ts';
import type { ExtensionEndpoint, ExtensionRequest } from './extension-request.ts';
import { conditionsOf } from './registry-routes.ts';
import { jsonReply } from './replies.ts';

const searchType = 'application/vnd.millpond.search.v1+json';
const typesType = 'application/vnd.millpond.types.v1+json';

/** Search, of the registry and of a repository, and the table of the short names that it knows. */
export function searchEndpoints(search: Search, { now }: { readonly now: () => number }): ExtensionEndpoint[] {
  const common = { extension: '_millpond', module: '', methods: ['GET', 'HEAD'] } as const;
  return [
    {
      ...common,
      component: 'search',
      listed: 'search',
      levels: ['registry', 'repository'],
      action: 'search',
      answer: (request) => answerSearch(search, { ...request, nowMs: now() }),
    },
    {
      ...common,
      component: 'types',
      listed: 'types',
      levels: ['registry'],
      async answer({ ctx, exchange, sender }) {
        const conditions = { ...conditionsOf(ctx, exchange), contentType: typesType };
        await sender.send(ctx.res, jsonReply({ types: artifactTypes }, conditions), exchange);
      },
    },
  ];
}

async function answerSearch(search: Search, asked: ExtensionRequest & { readonly nowMs: number }): Promise<void> {
  const { ctx, exchange, sender, parameters, repository, mayRead, nowMs } = asked;
  const query = readSearch(parameters, { nowMs, exactRepository: repository?.key });
  const { entries, next, isComplete } = await search.page(query, { mayRead, signal: exchange.signal });
  const token = next && query.limit > 0 ? writePosition(next, query) : undefined;
  const headers: string[] = [];
  if (token !== undefined) {
    const following = new URLSearchParams(parameters);
    following.set('next', token);
    headers.push('Link', `<${exchange.path}?${following.toString()}>; rel="next"`);
  }
  const body = { results: entries.map(shownEntry), ...(token !== undefined && { next: token }), complete: isComplete };
  const conditions = { ...conditionsOf(ctx, exchange), headers, contentType: searchType };
  await sender.send(ctx.res, jsonReply(body, conditions), exchange);
}

/** An entry as clients see it. */
function shownEntry(entry: FoundEntry): object {
  const { repository, tag, digest, isHosted, type, artifactType, mediaType, platforms, annotations, subject } = entry;
  return {
    repository,
    tag,
    digest,
    hosted: isHosted,
    type,
    artifactType,
    mediaType,
    size: entry.sizeBytes,
    platforms,
    annotations,
    subject,
    created: shownTime(entry.createdAtMs),
    changed: shownTime(entry.changedAtMs),
    cached: shownTime(entry.cachedAtMs),
    pulled: shownTime(entry.pulledAtMs),
    pulls: entry.pulls,
  };
}

function shownTime(ms: number): string | null {
  return ms === 0 ? null : new Date(ms).toISOString();
}
