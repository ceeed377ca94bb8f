import type { Context, Middleware } from 'koa';
import type { AccessControl, Presented } from '../access/access-control.ts';
import { certificateOf } from '../access/certificate.ts';
import { hasReason } from '../oci/error.ts';
import { clientAddress, clientKey } from './client-address.ts';
import type { Exchange, Right } from './exchange.ts';
import { realmOf } from './realm.ts';
import { isReplicaPath } from './replica-paths.ts';
import { challenged, type GuestUpstreams, type Rights } from './rights.ts';

/** The credentials of a request. */
export function presentedBy({ req }: Pick<Context, 'req'>, { settings }: AccessControl): Presented {
  const { socket } = req;
  const address = clientAddress(socket);
  const authorization = authorizationOf(req);
  const certificate = settings?.certificates === true ? certificateOf(socket) : undefined;
  return { authorization, address, client: clientKey(address), certificate };
}

/** Two headers are no credentials: something in front may have let the request through for the other one. */
function authorizationOf({ headers: { authorization }, rawHeaders }: Context['req']): string | undefined {
  if (authorization === undefined) return undefined;
  const names = rawHeaders.filter((name, at) => at % 2 === 0 && name.toLowerCase() === 'authorization');
  return names.length === 1 ? authorization : names.join(' ');
}

/** Callers are not distinguished. Another configuration changes all facts. */
const ofEverybody: Right = { facts: [] };

/** Finds out who asks. */
export function identifyCaller(access: AccessControl): Middleware {
  return async function identify(ctx, next) {
    const { settings } = access;
    const exchange = ctx.state['exchange'] as Exchange;
    // Replicas sign their requests: their routes check that, and answer nothing else.
    if (exchange.isPeer || isReplicaPath(exchange.path)) return await next();
    if (!settings) {
      exchange.isCurrent = () => access.settings === undefined;
      exchange.right = () => (exchange.isCurrent() ? ofEverybody : undefined);
      return await next();
    }
    exchange.realm = realmOf(ctx.req, settings.url);
    try {
      const { caller, grants, guest, isCurrent, heldUntilMs } = await access.identify(presentedBy(ctx, access));
      exchange.isCurrent = isCurrent;
      exchange.heldUntilMs = heldUntilMs;
      exchange.caller = caller;
      exchange.guest = guest;
      exchange.grants = grants;
    } catch (error) {
      if (!hasReason(error, 'unauthenticated')) throw error;
      // With this, clients drop the token that they have and ask for another one.
      const isToken = /^\s*bearer\s/i.test(ctx.req.headers.authorization ?? '');
      throw challenged(exchange, (error as Error).message, isToken ? { error: 'invalid_token' } : {});
    }
    return await next();
  };
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
export function authorizePull(rights: Rights, guests: GuestUpstreams): Middleware {
  return async function authorize(ctx, next) {
    const exchange = ctx.state['exchange'] as Exchange;
    const { selection } = exchange;
    if (selection === undefined) rights.requireToken(exchange);
    else {
      const repository = `${selection.upstream.name}/${selection.repository}`;
      rights.require(exchange, 'pull', repository);
      if (exchange.caller && guests.judges(selection.upstream.name)) {
        const { guest } = exchange;
        if (guest?.upstream !== selection.upstream.name) rights.challenge(exchange, selection);
        const upstream = await guests.admit(exchange, { guest, selection, request: exchange.request });
        exchange.selection = { ...selection, upstream };
      } else if (exchange.caller) exchange.right = () => rights.ofPull(exchange, repository);
    }
    return await next();
  };
}
