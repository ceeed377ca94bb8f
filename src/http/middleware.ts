import type { Middleware } from 'koa';
import { RegistryError } from '../oci/error.ts';
import { parseRequest, pullMethods } from '../oci/request.ts';
import { selectUpstream } from '../upstream/selection.ts';
import type { UpstreamTable } from '../upstream/table.ts';
import { ClientGone, Exchange } from './exchange.ts';
import { conditionsOf } from './registry-routes.ts';
import { errorReply } from './replies.ts';
import type { Sender } from './send.ts';

/** Told of each request of the registry API when it has ended. */
export type RequestObserver = (event: {
  readonly exchange: Exchange;
  readonly method: string;
  readonly status: number;
  /** Whether the whole answer left this process. */
  readonly complete: boolean;
  readonly durationMs: number;
  readonly userAgent: string | undefined;
  readonly client: string | undefined;
}) => void;

/** Begins a request of the registry API, and tells the observer when its connection is done with it. */
export function beginExchange(options: { observer: RequestObserver; readonly answerMs: number }): Middleware {
  const { observer } = options;
  return async function begin(ctx, next) {
    // Read for each request: it may be changed while the mirror runs.
    const { answerMs } = options;
    const exchange = new Exchange(ctx.req.url ?? '', { response: ctx.res, answerMs });
    ctx.state['exchange'] = exchange;
    // The answer goes straight to the socket: Koa's own responder would add to it.
    ctx.respond = false;
    try {
      await next();
    } finally {
      const { res, req } = ctx;
      const done = () =>
        observer({
          exchange,
          method: ctx.method,
          status: res.statusCode,
          complete: res.writableFinished,
          durationMs: performance.now() - exchange.startedAtMs,
          userAgent: req.headers['user-agent'],
          client: req.socket.remoteAddress,
        });
      if (res.writableFinished || res.destroyed) done();
      else res.once('close', done);
    }
  };
}

/** Renders whatever the steps below throw, as long as headers can still be sent. */
export function renderErrors({ sender }: { sender: Sender }): Middleware {
  return async function render(ctx, next) {
    const exchange = ctx.state['exchange'] as Exchange;
    try {
      await next();
    } catch (error) {
      const isGone = error instanceof ClientGone || exchange.isGone;
      // One who leaves is no failure of ours.
      if (!isGone) exchange.failure = error;
      if (ctx.res.headersSent || isGone) {
        ctx.res.destroy();
        return;
      }
      const shown = toRegistryError(error, exchange);
      await sender.send(ctx.res, errorReply(shown, conditionsOf(ctx, exchange), exchange.outcome), exchange);
    }
  };
}

function toRegistryError(error: unknown, exchange: Exchange): RegistryError {
  if (error instanceof RegistryError) return error;
  if (error instanceof DOMException && error.name === 'TimeoutError') {
    return new RegistryError('UNAVAILABLE', 'the upstream has not answered in time', { status: 504, cause: error });
  }
  return new RegistryError('UNKNOWN', 'something went wrong in this mirror; its log says more', {
    detail: { request: exchange.id },
    cause: error,
  });
}

/** Refuses everything but pulls: this is a mirror. */
export const onlyPulls: Middleware = async function refuseWrites(ctx, next) {
  if (!pullMethods.includes(ctx.method)) {
    throw new RegistryError('UNSUPPORTED', 'this mirror serves pulls only: push to the registry itself', {
      headers: { Allow: pullMethods.join(', ') },
    });
  }
  await next();
};

/** Reads what is asked for and chooses the upstream it is asked of. */
export function readRequest(options: { readonly upstreams: UpstreamTable }): Middleware {
  return async function read(ctx, next) {
    const exchange = ctx.state['exchange'] as Exchange;
    const request = parseRequest(exchange.path);
    exchange.request = request;
    if (request.kind !== 'ping') {
      const parameters = exchange.query === '' ? undefined : new URLSearchParams(exchange.query);
      exchange.selection = selectUpstream(options.upstreams, {
        name: request.name,
        nsValues: parameters?.getAll('ns') ?? [],
        refNameValues: [
          ...headerValues(ctx.req.headers['oci-ref-name']),
          ...(parameters?.getAll('oci-ref-name') ?? []),
        ],
        host: ctx.req.headers.host,
      });
    }
    await next();
  };
}

// Node joins a header that was sent several times with commas, which no image name has.
function headerValues(header: string | string[] | undefined): string[] {
  if (header === undefined) return [];
  return (Array.isArray(header) ? header.join(',') : header).split(',').map((value) => value.trim());
}
