import type { Context, Middleware } from 'koa';
import type { HostedElsewhere, RepositoryList } from '../discovery/repository-list.ts';
import type { HostedRegistry } from '../hosted/hosted-registry.ts';
import { isTransient, RegistryError } from '../oci/error.ts';
import { nextPageLink, readPageQuery } from '../oci/page.ts';
import { selectUpstream } from '../upstream/selection.ts';
import type { UpstreamTable } from '../upstream/table.ts';
import type { Exchange } from './exchange.ts';
import type { HostedOwner } from './hosted-owner.ts';
import { notOffered } from './hosted-request.ts';
import { ownerNames } from './owner-names.ts';
import { conditionsOf } from './registry-routes.ts';
import { jsonReply } from './replies.ts';
import type { Rights } from './rights.ts';
import { selectionInput } from './selecting.ts';
import type { Sender } from './send.ts';

/** Most names on a page; as many where the client does not say. */
const maxNames = 1_000;
const awayWarning = '299 - "the hosted repositories are not listed: the replica that keeps them cannot be reached"';

export interface CatalogRouteOptions {
  readonly upstreams: UpstreamTable;
  readonly hosted: HostedRegistry | undefined;
  /** The replica that keeps the hosted repositories, where that is another one. */
  readonly owner: HostedOwner | undefined;
  readonly repositories: RepositoryList;
  readonly sender: Sender;
  readonly rights: Rights;
}

/**
 * Answers `GET /v2/_catalog` with the repositories that can be pulled from here: all of them, each with the name of its
 * upstream in front; where `ns`, a reference name or `Host` names an upstream, those of that one by its own names.
 */
export function catalogRoute(options: CatalogRouteOptions): Middleware {
  return async function serveCatalog(ctx, next) {
    const exchange = ctx.state['exchange'] as Exchange;
    if (exchange.path !== '/v2/_catalog') return await next();
    if (ctx.method !== 'GET' && ctx.method !== 'HEAD') throw notOffered(ctx.method, 'GET, HEAD');
    options.rights.requireListing(exchange);
    const prefix = prefixOf(options, ctx);
    const parameters = new URLSearchParams(exchange.query);
    const { n = maxNames, last } = readPageQuery(parameters);
    const { owner } = options;
    if (exchange.isPeer && owner) {
      throw new RegistryError('loop', 'this replica does not keep the hosted repositories: hosted.owner differs');
    }
    const elsewhere = owner && new OwnerList(owner, exchange);
    const { names, more } = await options.repositories.page({
      prefix,
      after: `${prefix}${last}`,
      limit: Math.min(n, maxNames),
      mayRead: (key) => options.rights.mayKnow(exchange, key),
      elsewhere,
      // Another replica lists what it has cached itself.
      onlyHosted: exchange.isPeer,
      signal: exchange.signal,
    });
    const repositories = names.map((name) => name.slice(prefix.length));
    const end = repositories.at(-1);
    const headers = more && end !== undefined ? nextPageLink(exchange.path, { parameters, last: end }) : [];
    if (elsewhere?.isAway === true) headers.push('Warning', awayWarning);
    exchange.outcome = 'hit';
    return await options.sender.send(
      ctx.res,
      jsonReply({ repositories }, { ...conditionsOf(ctx, exchange), headers }),
      exchange,
    );
  };
}

/** The repositories that the owner of the hosted repositories lists for a caller. */
class OwnerList implements HostedElsewhere {
  /** Whether the owner could not be asked. */
  isAway = false;
  readonly #owner: HostedOwner;
  readonly #exchange: Exchange;

  constructor(owner: HostedOwner, exchange: Exchange) {
    this.#owner = owner;
    this.#exchange = exchange;
  }

  isHosted(repository: string): boolean {
    return this.#owner.rules.isHosted(repository);
  }

  async *names(after: string): AsyncGenerator<string> {
    try {
      yield* ownerNames(this.#owner, this.#exchange, after);
    } catch (error) {
      if (!isTransient(error)) throw error;
      this.isAway = true;
    }
  }
}

/** The name of the upstream that the request names, and a slash; '' where it names none. @throws RegistryError */
function prefixOf({ upstreams, hosted, owner }: CatalogRouteOptions, ctx: Context): string {
  const exchange = ctx.state['exchange'] as Exchange;
  const input = selectionInput(exchange, { headers: ctx.req.headers, name: undefined });
  const [ns] = input.nsValues;
  if (ns === undefined && input.refNameValues.length === 0) {
    const byHost = input.host === undefined ? undefined : upstreams.findByHost(input.host);
    return byHost === undefined ? '' : `${byHost.name}/`;
  }
  if (ns !== undefined && upstreams.find(ns) === undefined && (owner ?? hosted)?.rules.hasBelow(`${ns}/`) === true) {
    return `${ns}/`;
  }
  const selection = selectUpstream(upstreams, input);
  exchange.selection = { ...selection, repository: '' };
  return `${selection.upstream.name}/`;
}
