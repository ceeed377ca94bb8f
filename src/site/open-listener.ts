import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import Koa from 'koa';
import type { Generations } from '../front/generations.ts';
import { type OperatorRoutesOptions, operatorRoutes } from '../http/operator-routes.ts';
import { isReplicaPath } from '../http/replica-paths.ts';
import { type Guest, type Listener, listen } from '../http/server.ts';
import type { Cache } from './cache.ts';
import { type ClientAppParts, clientApp } from './client-app.ts';
import { openExtraListener } from './extra-listener.ts';
import { frontThreads, type OpenFronts, openFronts } from './open-fronts.ts';
import type { LiveServerTls } from './server-tls.ts';

/** The parts that the listeners use. */
export interface ListenerParts extends ClientAppParts {
  readonly tls: LiveServerTls | undefined;
  /** The certificates of the listener of replicas; those of clients if replicas have no listener of their own. */
  readonly peersTls: LiveServerTls | undefined;
  readonly generations: Generations;
}

/** Answers clients from now on. */
export async function openListener(cache: Cache, parts: ListenerParts): Promise<ClientListener> {
  const { walls, others, tls, peersTls, hosted, owner, short } = parts;
  const { listen: address, listeners } = cache.config;
  const app = clientApp(cache, parts).callback();
  // Koa answers its own failures: this promise never rejects.
  const answer: RequestListener = (request, response) => void app(request, response);

  await using owned = new AsyncDisposableStack();
  const beside = await openBeside(cache, { ...parts, answer, owned });
  const fronts = openingFronts(cache, parts);
  const handler: RequestListener = (request, response) => {
    if (listeners.peers && isForReplicas(request)) return refuse(response);
    if (short?.way.answer(request, response) !== true) answer(request, response);
  };
  const listener = await listen(handler, {
    ...address,
    tls: tls?.current,
    way: short?.way,
    fronts: fronts?.open,
    takesBodies: (hosted ?? owner) !== undefined,
    admission: walls.admission,
    onMalformed: (kind) => walls.malformed(kind),
  });
  tls?.onRenewed((renewed) => {
    listener.renewTls(renewed);
  });
  peersTls?.onRenewed((renewed) => others?.renewTls(renewed));
  const more = owned.move();
  return {
    ...listener,
    look: () => fronts?.opened?.look(),
    peerAddress: beside.peers?.address ?? listener.address,
    async close(drainMs) {
      await Promise.all([listener.close(drainMs), more.disposeAsync()]);
    },
  };
}

/** The listeners of operators and of other replicas, where they have their own. */
async function openBeside(
  cache: Cache,
  parts: ListenerParts & { readonly answer: RequestListener; readonly owned: AsyncDisposableStack },
) {
  const { files, log, walls, health, metrics, hosted, peersTls, answer, owned } = parts;
  const { listeners } = cache.config;
  const common = { files, log, walls };
  if (listeners.metrics) {
    const operators = operatorApp({ readiness: () => health.readiness(), metrics });
    owned.use(await openExtraListener(operators, { ...listeners.metrics, ...common, place: 'metrics' }));
  }
  if (!listeners.peers) return { peers: undefined };
  const forReplicas: RequestListener = (request, response) =>
    isForReplicas(request) ? answer(request, response) : refuse(response);
  const takesBodies = hosted !== undefined;
  const options = { ...listeners.peers, ...common, place: 'peers' as const, takesBodies, live: peersTls };
  return { peers: owned.use(await openExtraListener(forReplicas, options)) };
}

/** The threads in front of this one, opened with the listener; `undefined`: this thread accepts connections itself. */
function openingFronts(cache: Cache, { log, metrics, short, generations, walls, tls }: ListenerParts) {
  const wanted = short && frontThreads(cache, { log });
  if (!wanted) return undefined;
  const fronts = {
    opened: undefined as OpenFronts | undefined,
    open: async (adopt: (guest: Guest) => void) =>
      (fronts.opened = await openFronts(cache, {
        log,
        metrics,
        ...wanted,
        short,
        generations,
        loads: walls.loads,
        adopt,
        tls: tls?.current,
      })),
  };
  return fronts;
}

/** The listener of clients, and those beside it. */
export interface ClientListener extends Listener {
  /** The configuration has changed. */
  look(): void;
  /** Where other replicas are served. */
  readonly peerAddress: string;
}

/** Whether a request comes from a replica, for itself or for its clients: all of these are signed. */
function isForReplicas({ url = '', headers }: IncomingMessage): boolean {
  const [path = ''] = url.split('?', 1);
  return isReplicaPath(path) || path === '/v2/_millpond/replica' || headers['millpond-pass'] !== undefined;
}

function refuse(response: ServerResponse): void {
  response.writeHead(404, { 'Content-Length': '0' }).end();
}

function operatorApp(options: OperatorRoutesOptions): RequestListener {
  const app = new Koa();
  app.use(operatorRoutes(options));
  app.on('error', () => undefined);
  const answer = app.callback();
  return (request, response) => void answer(request, response);
}
