import type { Search } from '../discovery/search/search.ts';
import { readSearch } from '../discovery/search/search-parameters.ts';
import { artifactTypes } from '../oci/artifact-types.ts';
import { RegistryError } from '../oci/error.ts';
import type { ExtensionEndpoint, ExtensionRequest } from './extension-request.ts';
import type { HostedOwner } from './hosted-owner.ts';
import { type ShownPage, searchJointly, shownPage } from './joint-search.ts';
import { conditionsOf } from './registry-routes.ts';
import { jsonReply } from './replies.ts';

const searchType = 'application/vnd.millpond.search.v1+json';
const awayWarning = '299 - "hosted repositories are not searched: the replica that keeps them cannot be reached"';
const typesType = 'application/vnd.millpond.types.v1+json';

/** Search, of the registry and of a repository, and the table of the short names that it knows. */
export function searchEndpoints(
  search: Search,
  { now, owner }: { readonly now: () => number; readonly owner: HostedOwner | undefined },
): ExtensionEndpoint[] {
  const common = { extension: '_millpond', module: '', methods: ['GET', 'HEAD'] } as const;
  return [
    {
      ...common,
      component: 'search',
      listed: 'search',
      levels: ['registry', 'repository'],
      action: 'search',
      isList: true,
      answer: (request) => answerSearch(search, { ...request, nowMs: now(), owner }),
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

async function answerSearch(
  search: Search,
  asked: ExtensionRequest & { readonly nowMs: number; readonly owner: HostedOwner | undefined },
): Promise<void> {
  const { ctx, exchange, sender, parameters, repository, owner } = asked;
  if (exchange.isPeer && owner) {
    throw new RegistryError('loop', 'this replica does not keep the hosted repositories: hosted.owner differs');
  }
  const headers: string[] = [];
  let page: ShownPage;
  if (owner === undefined || repository !== undefined) page = await pageOf(search, asked);
  else {
    const { limit, descending } = readSearch(withoutNext(parameters), asked);
    const own = (of: URLSearchParams): Promise<ShownPage> => pageOf(search, { ...asked, parameters: of });
    const joint = await searchJointly(asked, { owner, own, limit, descending });
    if (joint.isAway) headers.push('Warning', awayWarning);
    page = joint;
  }
  const { results, tokens, next, complete } = page;
  if (next !== undefined) {
    const following = new URLSearchParams(parameters);
    following.set('next', next);
    headers.push('Link', `<${exchange.path}?${following.toString()}>; rel="next"`);
  }
  const rest = JSON.stringify({ ...(next !== undefined && { next }), complete, ...(exchange.isPeer && { tokens }) });
  const body = Buffer.from(`{"results":[${results.join(',')}],${rest.slice(1)}`);
  const conditions = { ...conditionsOf(ctx, exchange), headers, contentType: searchType };
  await sender.send(ctx.res, jsonReply(body, conditions), exchange);
}

/** A page of what is found here; for another replica, only of hosted repositories. */
async function pageOf(
  search: Search,
  asked: Pick<ExtensionRequest, 'exchange' | 'parameters' | 'repository' | 'mayRead'> & { readonly nowMs: number },
): Promise<ShownPage> {
  const { exchange, parameters, repository, mayRead, nowMs } = asked;
  const isHosted = exchange.isPeer && repository === undefined;
  const query = { ...readSearch(parameters, { nowMs, exactRepository: repository?.key }), isHosted };
  return shownPage(await search.page(query, { mayRead, signal: exchange.signal }), query);
}

function withoutNext(parameters: URLSearchParams): URLSearchParams {
  const first = new URLSearchParams(parameters);
  first.delete('next');
  return first;
}
