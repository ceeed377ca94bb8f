import Koa, { type Middleware } from 'koa';
import type { Mirror } from '../mirror/mirror.ts';
import type { UpstreamTable } from '../upstream/table.ts';
import { isClientLeft } from './client-left.ts';
import { beginExchange, onlyPulls, type RequestObserver, readRequest, renderErrors } from './middleware.ts';
import { type OperatorRoutesOptions, operatorRoutes } from './operator-routes.ts';
import { type PeerRoutesOptions, peerRoutes } from './peer-routes.ts';
import { registryRoutes } from './registry-routes.ts';
import { Sender } from './send.ts';

/** `upstreams` and the times are read for each request: they may be changed while the mirror runs. */
export interface AppOptions {
  readonly upstreams: UpstreamTable;
  readonly mirror: Mirror;
  readonly observer: RequestObserver;
  /** Within this a client has headers or an error, in milliseconds. */
  readonly answerMs: number;
  /** A client that takes nothing of what waits for it is cut after this, in milliseconds. */
  readonly clientIdleMs: number;
  readonly operator: OperatorRoutesOptions;
  /** Absent: one process alone, which serves no other replica. */
  readonly peers: PeerRoutesOptions | undefined;
  /** Told of what escapes all of it: a bug. */
  readonly onError: (error: unknown) => void;
}

/** The HTTP side. The list reads as the life of a request. */
export function createApp(options: AppOptions): Koa {
  const app = new Koa();
  const sender = new Sender(options);
  for (const step of [
    beginExchange(options),
    renderErrors({ sender }),
    onlyPulls,
    peerRoutes({ service: options.mirror.peerService, sender }, options.peers),
    readRequest(options),
    registryRoutes({ mirror: options.mirror, sender }),
  ]) {
    app.use(onRegistryPath(step));
  }
  app.use(operatorRoutes(options.operator));
  app.on('error', (error: NodeJS.ErrnoException) => {
    if (!isClientLeft(error)) options.onError(error);
  });
  return app;
}

function onRegistryPath(step: Middleware): Middleware {
  return (ctx, next) => ((ctx.req.url ?? '').startsWith('/v2') ? step(ctx, next) : next());
}
