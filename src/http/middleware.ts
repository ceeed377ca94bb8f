import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import type { Middleware } from 'koa';
import { LRUCache } from 'lru-cache';
import { hasReason, RegistryError } from '../oci/error.ts';
import { upTo } from '../oci/lru-bound.ts';
import type { Report } from '../oci/report.ts';
import { parseRequest, pullMethods, type RegistryRequest } from '../oci/request.ts';
import { RememberedAnswer } from '../replicas/negative-answers.ts';
import type { Chain } from '../transport/chain.ts';
import { type Selection, selectUpstream } from '../upstream/selection.ts';
import type { UpstreamTable } from '../upstream/table.ts';
import type { Admission } from './admission.ts';
import { ClientGone, Exchange } from './exchange.ts';
import { overloadError } from './overload-error.ts';
import { conditionsOf } from './registry-routes.ts';
import { errorReply } from './replies.ts';
import { selectionInput } from './selecting.ts';
import type { Sender } from './send.ts';

/** A request of the registry API that has ended. */
export interface EndedExchange {
  readonly exchange: Exchange;
  readonly method: string;
  readonly status: number;
  /** Whether the whole answer left this process. */
  readonly complete: boolean;
  readonly durationMs: number;
  readonly userAgent: string | undefined;
  /** The address it came from. */
  readonly client: string;
}

/** Begins a request of the registry API, and reports it when its connection is done with it. */
export function beginExchange(options: {
  report: Report<EndedExchange>;
  admission: Admission;
  readonly answerMs: number;
}): Middleware {
  const { report, admission } = options;
  return async function begin(ctx, next) {
    // Read for each request: it may be changed while the mirror runs.
    const answerMs = Math.min(options.answerMs, waitMsOf(ctx.req.headers['prefer']));
    const ticket = admission.begin(ctx.req.socket);
    const exchange = new Exchange(ctx.req.url ?? '', { response: ctx.res, answerMs, ticket });
    ctx.state['exchange'] = exchange;
    // The answer goes straight to the socket: Koa's own responder would add to it.
    ctx.respond = false;
    try {
      await next();
    } finally {
      const { res, req } = ctx;
      const client = admission.addressOf(req.socket);
      const done = () => {
        ticket[Symbol.dispose]();
        report({
          exchange,
          method: ctx.method,
          status: res.statusCode,
          complete: res.writableFinished,
          durationMs: performance.now() - exchange.startedAtMs,
          userAgent: req.headers['user-agent'],
          client,
        });
      };
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
      if (error instanceof RememberedAnswer) exchange.outcome = 'negative';
      const shown = toRegistryError(error, exchange);
      await sender.send(ctx.res, errorReply(shown, conditionsOf(ctx, exchange), exchange.outcome), exchange);
    }
  };
}

function toRegistryError(error: unknown, exchange: Exchange): RegistryError {
  // Whichever file could not be opened, a connection to an upstream or one on disk, the client has to come back later.
  if (isOutOfFiles(error)) {
    return new RegistryError('out-of-files', 'this mirror has as many files open as it may have; try again later', {
      headers: { 'Retry-After': '5' },
      cause: error,
    });
  }
  if (error instanceof RegistryError) return error;
  if (error instanceof DOMException && error.name === 'TimeoutError') {
    return new RegistryError('timeout', 'the upstream has not answered in time', { cause: error });
  }
  return new RegistryError('internal', 'something went wrong in this mirror; its log says more', {
    detail: { request: exchange.id },
    cause: error,
  });
}

/** Whether the process, or the system, has no file left to open: nothing is wrong with what was asked for. */
function isOutOfFiles(error: unknown): boolean {
  if (hasReason(error, 'out-of-files')) return true;
  return error instanceof Error && 'code' in error && (error.code === 'EMFILE' || error.code === 'ENFILE');
}

/** Refuses what there is no room for. */
export const admit: Middleware = function refuseOverload(ctx, next) {
  const { overload } = (ctx.state['exchange'] as Exchange).ticket;
  if (overload !== undefined) throw overloadError(overload);
  return next();
};

/** Refuses a request with several `Host` headers (RFC 9112, 3.2): a proxy in front may have read another one. */
export const oneHost: Middleware = function refuseHosts(ctx, next) {
  if (hasSeveralHosts(ctx.req)) throw new RegistryError('bad-name', 'the request has several Host headers');
  return next();
};

/** Node itself keeps the first of several, in silence. */
export function hasSeveralHosts({ rawHeaders }: Pick<IncomingMessage, 'rawHeaders'>): boolean {
  let hosts = 0;
  for (let index = 0; index < rawHeaders.length; index += 2) {
    if (rawHeaders[index]?.length === 4 && rawHeaders[index]?.toLowerCase() === 'host') hosts += 1;
  }
  return hosts > 1;
}

/** How long a mirror that asks this one waits (RFC 7240, 4.3), less the way to it; in milliseconds. */
function waitMsOf(header: string | string[] | undefined): number {
  if (header === undefined) return Number.POSITIVE_INFINITY;
  const [, seconds] = /(?:^|[\s,;])wait=(\d{1,4})(?=$|[\s,;])/.exec(String(header).slice(0, 200)) ?? [];
  return seconds === undefined ? Number.POSITIVE_INFINITY : Math.max(1, Number(seconds)) * 1000;
}

/** Follows the chain of mirrors that a request has come through: one that comes back is answered at once. */
export function followChain(chain: Chain): Middleware {
  return function follow(ctx, next) {
    const { 'cdn-loop': header } = ctx.req.headers;
    if (header === undefined) return next();
    const before = String(header);
    (ctx.state['exchange'] as Exchange).through = before.slice(0, 300);
    if (chain.isLoop(before)) {
      throw new RegistryError('loop', 'this mirror is asked through itself: an upstream leads back to it');
    }
    return chain.run(before, { waitMs: waitMsOf(ctx.req.headers['prefer']), work: next });
  };
}

/** Refuses everything but pulls: this is a mirror. */
export const onlyPulls: Middleware = function refuseWrites(ctx, next) {
  if (!pullMethods.includes(ctx.method)) {
    throw new RegistryError('read-only', 'this mirror serves pulls only: push to the registry itself', {
      headers: { Allow: pullMethods.join(', ') },
    });
  }
  return next();
};

/** Reads what is asked for and chooses the upstream it is asked of. */
export function readRequest(options: { readonly upstreams: UpstreamTable }): Middleware {
  const readings = new LRUCache<string, Reading>(upTo(5_000));
  let table: UpstreamTable | undefined;
  return function read(ctx, next) {
    const exchange = ctx.state['exchange'] as Exchange;
    const { upstreams } = options;
    if (table !== upstreams) readings.clear();
    table = upstreams;
    const { host, 'oci-ref-name': refName } = ctx.req.headers;
    // The same few things are asked for again and again, and a table gives the same answer each time.
    const key = JSON.stringify([host, refName, exchange.path, exchange.query]);
    let reading = readings.get(key);
    if (reading === undefined) {
      reading = readFor(upstreams, { exchange, headers: ctx.req.headers });
      if (key.length <= maxKeyLength) readings.set(key, reading);
    }
    exchange.request = reading.request;
    exchange.selection = reading.selection;
    return next();
  };
}

/** Longer ones are not kept: no real client sends them, and what is kept has to stay small. */
const maxKeyLength = 600;

interface Reading {
  readonly request: RegistryRequest;
  /** None for `/v2/` itself. */
  readonly selection: Selection | undefined;
}

function readFor(
  upstreams: UpstreamTable,
  { exchange, headers }: { exchange: Exchange; headers: IncomingHttpHeaders },
): Reading {
  const request = parseRequest(exchange.path);
  exchange.request = request;
  if (request.kind === 'ping') return { request, selection: undefined };
  return { request, selection: selectUpstream(upstreams, selectionInput(exchange, { headers, name: request.name })) };
}
