import Koa, { type Context, type Middleware } from 'koa';
import type { AccessControl } from '../access/access-control.ts';
import type { ImageDetails } from '../discovery/image-details.ts';
import type { RepositoryList } from '../discovery/repository-list.ts';
import type { Search } from '../discovery/search/search.ts';
import type { Keeper } from '../front/keeper.ts';
import type { HoldStore } from '../holds/hold-store.ts';
import type { HostedRegistry } from '../hosted/hosted-registry.ts';
import type { Mirror } from '../mirror/mirror.ts';
import type { Report } from '../oci/report.ts';
import type { SignatureGate } from '../signatures/signature-gate.ts';
import type { Chain } from '../transport/chain.ts';
import type { Repository } from '../upstream/repository.ts';
import type { UpstreamTable } from '../upstream/table.ts';
import { type AdministrationRoutesOptions, administrationEndpoints } from './administration-routes.ts';
import type { Admission } from './admission.ts';
import { authorizePull, hideUpstreams, identifyCaller } from './callers.ts';
import { catalogRoute } from './catalog-route.ts';
import { isClientLeft } from './client-left.ts';
import { documentation } from './documentation.ts';
import { type EventRoutesOptions, eventsEndpoint } from './event-routes.ts';
import type { ExtensionEndpoint } from './extension-request.ts';
import { extensionRoutes } from './extension-routes.ts';
import { HoldGate } from './hold-gate.ts';
import { type HoldRoutesOptions, holdEndpoints } from './hold-routes.ts';
import type { HostedOwner } from './hosted-owner.ts';
import type { HostedParts } from './hosted-request.ts';
import { hostedRoutes } from './hosted-routes.ts';
import { hostedTagging } from './hosted-tagging.ts';
import { imageEndpoint } from './image-routes.ts';
import {
  admit,
  beginExchange,
  type EndedExchange,
  followChain,
  hasSeveralHosts,
  oneHost,
  onlyPulls,
  readRequest,
  renderErrors,
} from './middleware.ts';
import { openApi } from './openapi.ts';
import { type OperatorRoutesOptions, operatorRoutes } from './operator-routes.ts';
import { type OwnerParts, ownerRoutes } from './owner-routes.ts';
import { passedOn } from './passed-on.ts';
import { type PeerRoutesOptions, peerRoutes } from './peer-routes.ts';
import { registryRoutes } from './registry-routes.ts';
import { type GuestUpstreams, Rights } from './rights.ts';
import { searchEndpoints } from './search-routes.ts';
import { Sender } from './send.ts';
import { tokenPath, tokenRoute } from './token-route.ts';

/** `upstreams` and the times are read for each request: they may be changed while the mirror runs. */
export interface AppOptions {
  readonly upstreams: UpstreamTable;
  readonly mirror: Mirror;
  /** This mirror's place among others that ask one another. */
  readonly chain: Chain;
  /** Receives each request when it has ended. */
  readonly report: Report<EndedExchange>;
  /** The rights of callers. */
  readonly access: AccessControl;
  /** Upstreams that judge the credentials of callers. */
  readonly guests: GuestUpstreams;
  /** The walls between clients. */
  readonly admission: Admission;
  /** Within this a client has headers or an error, in milliseconds. */
  readonly answerMs: number;
  /** A client that takes nothing of what waits for it is cut after this, in milliseconds. */
  readonly clientIdleMs: number;
  /** Repositories that live here alone; absent: no pushes. */
  readonly hosted: HostedRegistry | undefined;
  /** The replica that keeps them, where that is another one. */
  readonly owner: HostedOwner | undefined;
  readonly repositories: RepositoryList;
  readonly events: EventRoutesOptions;
  readonly search: Search;
  readonly images: ImageDetails;
  /** Wall clock in milliseconds. */
  readonly now: () => number;
  /** The manifests that are held for scanners. */
  readonly holds: HoldStore;
  readonly decisions: Pick<HoldRoutesOptions, 'decide'>;
  readonly operator: OperatorRoutesOptions;
  readonly administration: AdministrationRoutesOptions;
  /** Absent: one process alone, which serves no other replica. */
  readonly peers: PeerRoutesOptions | undefined;
  /** Receives what escapes every handler: a bug. */
  readonly onError: (error: unknown) => void;
  /** Keeps answers that can be given again without a decision; absent: none are kept. */
  readonly keeper?: Keeper | undefined;
  /** Decides by signatures which manifests are served; absent: all are. */
  readonly signatures?: SignatureGate<Repository> | undefined;
  /** Whether an nginx in front sends stored blobs from their files; read for each answer. Absent: it does not. */
  readonly handsFilesOver?: () => boolean;
}

/** The HTTP side. The list reads as the life of a request. */
export function createApp(options: AppOptions): Koa {
  const app = new Koa();
  const sender = new Sender(options);
  const rights = new Rights(options.access, options.guests);
  const gate = new HoldGate(options.holds, rights);
  const { administration } = options;
  const forAdministrators = administrationEndpoints(administration, rights);
  const offered = (): readonly ExtensionEndpoint[] =>
    administration.isOffered() ? [...extensions, ...forAdministrators] : extensions;
  const extensions: readonly ExtensionEndpoint[] = [
    openApi(() => offered().slice(1), { takesPushes: options.hosted !== undefined || options.owner !== undefined }),
    documentation(),
    eventsEndpoint({ ...options.events, clientIdleMs: () => options.clientIdleMs }),
    ...searchEndpoints(options.search, options),
    ...holdEndpoints(
      { all: () => options.holds.all(), decide: (image, decision) => options.decisions.decide(image, decision) },
      rights,
    ),
    imageEndpoint(options.images),
    ...(options.hosted ? [hostedTagging(options.hosted)] : []),
  ];
  const discovery = discoveryParts(options, { sender, rights });
  app.use(readTarget);
  for (const step of [
    beginExchange(options),
    renderErrors({ sender }),
    admit,
    followChain(options.chain),
    oneHost,
    passedOn(sender, options.peers),
    tokenRoute({ access: options.access, sender }),
    identifyCaller(options.access),
    hideUpstreams(rights),
    ...(options.owner ? [ownerRoutes(ownerParts(options, { owner: options.owner, sender, rights }))] : []),
    extensionRoutes(discovery, offered),
    catalogRoute(discovery),
    ...(options.hosted ? [hostedRoutes(hostedParts(options, { hosted: options.hosted, sender, rights, gate }))] : []),
    onlyPulls,
    peerRoutes({ service: options.mirror.peerService, answers: options.mirror.replicaAnswers, sender }, options.peers),
    readRequest(options),
    authorizePull(rights, options.guests),
    registryRoutes({
      mirror: options.mirror,
      sender,
      keeper: options.keeper,
      gate,
      signatures: options.signatures,
      handsFilesOver: options.handsFilesOver,
    }),
  ]) {
    app.use(onRegistryPath(step));
  }
  app.use(severalHosts);
  app.use(operatorRoutes(options.operator));
  app.on('error', (error: NodeJS.ErrnoException & { readonly expose?: boolean }) => {
    // A client's own mistake, such as a path that cannot be decoded, has been answered with 4xx.
    if (!isClientLeft(error) && error.expose !== true && !(error instanceof URIError)) options.onError(error);
  });
  return app;
}

/** The table of upstreams is read for each request. */
function discoveryParts(options: AppOptions, parts: { readonly sender: Sender; readonly rights: Rights }) {
  const { hosted, owner, repositories } = options;
  return {
    ...parts,
    hosted,
    owner,
    repositories,
    get upstreams() {
      return options.upstreams;
    },
  };
}

/** The idle time is read for each request. */
function hostedParts(options: AppOptions, parts: Omit<HostedParts, 'clientIdleMs'>): HostedParts {
  return {
    ...parts,
    get clientIdleMs() {
      return options.clientIdleMs;
    },
  };
}

function ownerParts(options: AppOptions, parts: Pick<OwnerParts, 'owner' | 'sender' | 'rights'>): OwnerParts {
  const { mirror } = options;
  return {
    ...parts,
    mirror,
    get clientIdleMs() {
      return options.clientIdleMs;
    },
  };
}

/** Refuses what several `Host` headers ask of an operator's path. */
const severalHosts: Middleware = (ctx, next) => {
  if (!hasSeveralHosts(ctx.req)) return next();
  return refuse(ctx, 'the request has several Host headers');
};

/** A target in absolute form, as clients send it to a proxy, means the same as its path and `Host` (RFC 9112, 3.2.2). */
const readTarget: Middleware = (ctx, next) => {
  const { req } = ctx;
  const { url = '' } = req;
  if (url.startsWith('/')) return next();
  const target = URL.parse(url);
  if (target === null || !/^https?:$/.test(target.protocol)) {
    return refuse(ctx, 'the target of the request cannot be read');
  }
  req.url = url.slice(url.indexOf(target.host) + target.host.length) || '/';
  req.headers.host = target.host;
  return next();
};

function refuse(ctx: Context, sentence: string): Promise<void> {
  ctx.status = 400;
  ctx.body = `${sentence}\n`;
  return Promise.resolve();
}

function onRegistryPath(step: Middleware): Middleware {
  return (ctx, next) => (isRegistryPath(ctx.req.url ?? '') ? step(ctx, next) : next());
}

/** The token service is a part of the registry API: its requests are counted, limited and answered alike. */
function isRegistryPath(url: string): boolean {
  return url.startsWith('/v2') || url === tokenPath || url.startsWith(`${tokenPath}?`);
}
