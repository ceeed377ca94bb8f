import type { Context, Middleware } from 'koa';
import type { HostedRegistry } from '../hosted/hosted-registry.ts';
import { type ExtensionPath, parseExtensionPath } from '../oci/extension-path.ts';
import { requireName, requireRepository } from '../oci/request.ts';
import { repositoryOf } from '../upstream/repository.ts';
import { selectUpstream } from '../upstream/selection.ts';
import type { UpstreamTable } from '../upstream/table.ts';
import type { Exchange } from './exchange.ts';
import {
  type ExtensionEndpoint,
  type ExtensionLevel,
  type ExtensionRequest,
  type NamedRepository,
  unknownEndpoint,
} from './extension-request.ts';
import { notOffered } from './hosted-request.ts';
import { conditionsOf } from './registry-routes.ts';
import { isReplicaPath } from './replica-paths.ts';
import { jsonReply } from './replies.ts';
import type { Rights } from './rights.ts';
import { selectionInput } from './selecting.ts';
import type { Sender } from './send.ts';

/** `upstreams` is read for each request: it may be changed while the mirror runs. */
export interface ExtensionRoutesOptions {
  readonly upstreams: UpstreamTable;
  readonly hosted: HostedRegistry | undefined;
  readonly sender: Sender;
  readonly rights: Rights;
}

/** Where each extension is described, and what it is for. */
const described: Readonly<Record<string, { readonly url: string; readonly description: string }>> = {
  _oci: {
    url: 'https://github.com/opencontainers/distribution-spec/blob/main/extensions/_oci.md',
    description: 'which extensions this mirror offers',
  },
  _millpond: {
    url: '/v2/_millpond/documentation',
    description: 'search, artifact types, details of images, events and administration of this mirror',
  },
};

/**
 * Answers the paths of extensions (distribution-spec, "Extensions API").
 * @param offered the endpoints besides discovery itself, which is always there; read for each request
 */
export function extensionRoutes(
  options: ExtensionRoutesOptions,
  offered: () => readonly ExtensionEndpoint[],
): Middleware {
  const discover: ExtensionEndpoint = {
    extension: '_oci',
    component: 'ext',
    module: 'discover',
    listed: 'ext/discover',
    levels: ['registry', 'repository'],
    methods: ['GET', 'HEAD'],
    answer: (request) => answerDiscovery(request, [discover, ...offered()]),
  };
  return async function serveExtension(ctx, next) {
    const exchange = ctx.state['exchange'] as Exchange;
    const path = parseExtensionPath(exchange.path);
    if (path === undefined || path.extension === '_catalog' || isReplicaPath(exchange.path)) return await next();
    const endpoint = find([discover, ...offered()], path);
    if (endpoint === undefined) throw unknownEndpoint(path);
    const repository = path.name === undefined ? undefined : repositoryNamed(options, { ctx, name: path.name });
    // As every write to a repository that is not hosted.
    if (endpoint.isForHosted === true && repository?.isHosted !== true) return await next();
    if (endpoint.isOfferedTo?.(exchange, repository) === false) {
      // A caller that has shown nothing yet may be one for whom it is there.
      options.rights.requireToken(exchange);
      throw unknownEndpoint(path);
    }
    if (!endpoint.methods.includes(ctx.method)) throw notOffered(ctx.method, endpoint.methods.join(', '));
    if (repository === undefined) {
      if (endpoint.isList === true) options.rights.requireListing(exchange);
      else options.rights.requireToken(exchange);
    } else options.rights.requireHere(exchange, endpoint.action ?? 'pull', repository);
    const mayRead = (key: string): boolean => options.rights.mayKnow(exchange, key);
    const isAllowed = (key: string): boolean => options.rights.mayWithToken(exchange, endpoint.action ?? 'pull', key);
    const open = (name: string): NamedRepository => {
      const opened = repositoryNamed(options, { ctx, name });
      options.rights.requireHere(exchange, endpoint.action ?? 'pull', opened);
      return opened;
    };
    const parameters = new URLSearchParams(exchange.query);
    return await endpoint.answer({
      ctx,
      exchange,
      sender: options.sender,
      path,
      parameters,
      repository,
      open,
      mayRead,
      isAllowed,
    });
  };
}

function find(endpoints: readonly ExtensionEndpoint[], path: ExtensionPath): ExtensionEndpoint | undefined {
  const level: ExtensionLevel = path.name === undefined ? 'registry' : 'repository';
  return endpoints.find(
    ({ extension, component, module, levels }) =>
      extension === path.extension &&
      component === path.component &&
      levels.includes(level) &&
      (module === undefined || module === path.rest),
  );
}

/**
 * The repository that a request names: a hosted one, or one of an upstream.
 * @throws RegistryError NAME_INVALID, NAME_UNKNOWN, DENIED
 */
function repositoryNamed(
  { upstreams, hosted }: Pick<ExtensionRoutesOptions, 'upstreams' | 'hosted'>,
  { ctx, name }: { readonly ctx: Context; readonly name: string },
): NamedRepository {
  requireName(name);
  const exchange = ctx.state['exchange'] as Exchange;
  const input = selectionInput(exchange, { headers: ctx.req.headers, name });
  const [ns] = input.nsValues;
  const key = ns === undefined ? name : `${ns}/${name}`;
  if (hosted?.rules.isHosted(key) === true) {
    requireRepository(key);
    exchange.hosted = key;
    return { key, isHosted: true };
  }
  const selection = selectUpstream(upstreams, input);
  exchange.selection = selection;
  return { key: repositoryOf(selection.upstream, selection.repository).key, isHosted: false };
}

/** The extensions of one level, with their endpoints (extension `_oci`, component `ext`, module `discover`). */
async function answerDiscovery(
  { ctx, exchange, sender, path, repository }: ExtensionRequest,
  endpoints: readonly ExtensionEndpoint[],
): Promise<void> {
  const level: ExtensionLevel = path.name === undefined ? 'registry' : 'repository';
  const base = path.name === undefined ? '/v2' : `/v2/${path.name}`;
  const extensions = Object.entries(described).flatMap(([name, about]) => {
    const own = endpoints.filter(
      ({ extension, levels, isForHosted, isOfferedTo }) =>
        extension === name &&
        levels.includes(level) &&
        (isForHosted !== true || repository?.isHosted === true) &&
        isOfferedTo?.(exchange, repository) !== false,
    );
    if (own.length === 0) return [];
    return [{ name, ...about, endpoints: own.map(({ listed }) => `${base}/${name}/${listed}`) }];
  });
  await sender.send(ctx.res, jsonReply({ extensions }, conditionsOf(ctx, exchange)), exchange);
}
