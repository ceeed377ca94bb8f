import type { IncomingMessage } from 'node:http';
import type { Context, Middleware } from 'koa';
import type { AccessControl } from '../access/access-control.ts';
import type { Action, Caller } from '../access/caller.ts';
import { hasReason, RegistryError } from '../oci/error.ts';
import { clientAddress, clientKey } from './client-address.ts';
import type { Exchange } from './exchange.ts';

/** Requests that replicas sign: their routes check that, and answer nothing else. */
const peerPath = '/v2/_millpond/blobs/';

/** Finds out who asks. */
export function identifyCaller(access: AccessControl): Middleware {
  return async function identify(ctx, next) {
    if (!access.isOn) return await next();
    const exchange = ctx.state['exchange'] as Exchange;
    if (exchange.path.startsWith(peerPath)) return await next();
    exchange.caller = await identified(access, ctx);
    return await next();
  };
}

async function identified(access: AccessControl, ctx: Context): Promise<Caller> {
  const address = clientAddress(ctx.req.socket);
  try {
    return await access.identify({
      authorization: ctx.req.headers.authorization,
      address,
      client: clientKey(address),
    });
  } catch (error) {
    if (error instanceof RegistryError && error.reason === 'unauthenticated') throw challenged(error.message);
    throw error;
  }
}

/** Refuses, in the same way whether it is here or not, what the caller may not have. */
export class Rights {
  readonly #access: AccessControl;

  constructor(access: AccessControl) {
    this.#access = access;
  }

  /** Whether a caller may do something: for listings. */
  may({ caller }: Exchange, action: Action, repository: string): boolean {
    return this.#access.may(caller, action, repository);
  }

  /**
   * @param repository by its full name
   * @throws RegistryError 401 for a caller that could show more, 403 for others
   */
  require({ caller }: Exchange, action: Action, repository: string): void {
    if (this.#access.may(caller, action, repository)) return;
    throw refusal(caller);
  }

  /** Answers `/v2/`: clients learn from it that they have to show something. @throws RegistryError 401 */
  requireCaller(exchange: Exchange, { headers }: IncomingMessage): void {
    const { caller } = exchange;
    if (caller?.kind !== 'anonymous' || headers.authorization !== undefined) return;
    if (!this.#access.may(caller, 'pull', undefined)) throw challenged('authentication is required');
  }
}

/** Tells only those of upstreams that are not there, or not allowed, who could pull from them. */
export function hideUpstreams(rights: Rights): Middleware {
  return async function hide(ctx, next) {
    const exchange = ctx.state['exchange'] as Exchange;
    try {
      await next();
    } catch (error) {
      if (exchange.caller && hasReason(error, 'unknown-upstream', 'not-allowed')) {
        rights.require(exchange, 'pull', askedName(exchange));
      }
      throw error;
    }
  };
}

/** The repository as the request names it, where no upstream was found for it. */
function askedName({ request, selection, query }: Exchange): string {
  if (selection) return `${selection.upstream.name}/${selection.repository}`;
  const name = request && 'name' in request ? request.name : '';
  const ns = new URLSearchParams(query).get('ns');
  return ns === null ? name : `${ns}/${name}`;
}

/** Lets only those pull who may. */
export function authorizePull(rights: Rights): Middleware {
  return function authorize(ctx, next) {
    const exchange = ctx.state['exchange'] as Exchange;
    const { selection, caller } = exchange;
    if (caller === undefined) return next();
    if (selection === undefined) rights.requireCaller(exchange, ctx.req);
    else rights.require(exchange, 'pull', `${selection.upstream.name}/${selection.repository}`);
    return next();
  };
}

function refusal(caller: Caller | undefined): RegistryError {
  if (caller?.kind === 'anonymous') return challenged('authentication is required');
  return new RegistryError('forbidden', 'no policy of this mirror allows this to you');
}

function challenged(sentence: string): RegistryError {
  return new RegistryError('unauthenticated', sentence, {
    headers: { 'WWW-Authenticate': 'Basic realm="Millpond", charset="UTF-8"', 'Cache-Control': 'no-store' },
  });
}
