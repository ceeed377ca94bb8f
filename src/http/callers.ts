import type { Context, Middleware } from 'koa';
import type { AccessControl, Guest, Presented } from '../access/access-control.ts';
import type { Action } from '../access/caller.ts';
import { certificateOf } from '../access/certificate.ts';
import { isGranted } from '../access/grants.ts';
import { hasReason, RegistryError } from '../oci/error.ts';
import type { RegistryRequest } from '../oci/request.ts';
import type { Selection } from '../upstream/selection.ts';
import type { Upstream } from '../upstream/upstream.ts';
import { clientAddress, clientKey } from './client-address.ts';
import type { Exchange } from './exchange.ts';
import { realmOf } from './realm.ts';
import { isReplicaPath } from './replica-paths.ts';

/** What a request shows of its caller. */
export function presentedBy({ req }: Pick<Context, 'req'>, { settings }: AccessControl): Presented {
  const { socket } = req;
  const address = clientAddress(socket);
  const { authorization } = req.headers;
  const certificate = settings?.certificates === true ? certificateOf(socket) : undefined;
  return { authorization, address, client: clientKey(address), certificate };
}

/** Finds out who asks. */
export function identifyCaller(access: AccessControl): Middleware {
  return async function identify(ctx, next) {
    const { settings } = access;
    const exchange = ctx.state['exchange'] as Exchange;
    // Replicas sign their requests: their routes check that, and answer nothing else.
    if (!settings || exchange.isPeer || isReplicaPath(exchange.path)) return await next();
    exchange.realm = realmOf(ctx.req, settings.url);
    try {
      const { caller, grants, guest } = await access.identify(presentedBy(ctx, access));
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

/** Refuses, in the same way whether it is here or not, what the caller may not have. */
export class Rights {
  readonly #access: AccessControl;

  readonly #guests: GuestUpstreams;

  constructor(access: AccessControl, guests: GuestUpstreams) {
    this.#access = access;
    this.#guests = guests;
  }

  /** Whether a caller may do something: for listings. @param repository `undefined`: the mirror itself */
  may({ caller }: Exchange, action: Action, repository: string | undefined): boolean {
    // Which of its repositories a caller may read only that upstream knows.
    if (caller && action === 'search' && this.#guests.judges(repository?.split('/', 1)[0] ?? '')) return false;
    return this.#access.may(caller, action, repository);
  }

  /**
   * @param repository by its full name
   * @throws RegistryError 401 for a caller that could show more, 403 for others
   */
  require(exchange: Exchange, action: Action, repository: string): void {
    const { caller, grants, request } = exchange;
    if (caller === undefined) return;
    const scope = `repository:${repository}:${action === 'push' ? 'pull,push' : action}`;
    const { isAllowed, rule } = this.#access.decide(caller, action, repository);
    if (!isAllowed) {
      // One who shows nothing where all have to is asked, and not refused.
      if (caller.kind !== 'anonymous' || this.#access.settings?.anonymous === true) {
        this.#access.refused(caller, action, { repository, rule });
      }
      // One who has shown a token has been told once.
      if (caller.kind === 'anonymous') {
        const error = grants === undefined ? {} : { error: 'insufficient_scope' };
        throw challenged(exchange, 'authentication is required', { scope, ...error });
      }
      throw forbidden();
    }
    // Clients ask for tokens by the name that they use themselves.
    const asked = request && 'name' in request ? request.name : repository;
    if (grants !== undefined && !isGranted(grants, action, [repository, asked])) {
      throw challenged(exchange, 'the token is not for this', { scope, error: 'insufficient_scope' });
    }
  }

  /**
   * As {@link require}, for what only this mirror knows of a repository: where the upstream judges callers, no one is told.
   * @throws RegistryError 401, 403
   */
  requireHere(
    exchange: Exchange,
    action: Action,
    { key, isHosted }: { readonly key: string; readonly isHosted: boolean },
  ): void {
    this.require(exchange, action, key);
    if (exchange.caller && !isHosted && this.#guests.judges(key.split('/', 1)[0] ?? '')) throw forbidden();
  }

  /** Asks for credentials of the upstream itself. @throws RegistryError 401 */
  challenge(exchange: Exchange, { upstream, repository }: Selection): never {
    const scope = `repository:${upstream.name}/${repository}:pull`;
    const error = exchange.grants === undefined ? {} : { error: 'insufficient_scope' };
    throw challenged(exchange, `credentials of ${upstream.name} are required`, { scope, ...error });
  }

  /** Answers `/v2/`: clients learn from it that they have to ask for a token. @throws RegistryError 401 */
  requireToken(exchange: Exchange): void {
    if (exchange.caller?.kind !== 'anonymous' || exchange.grants !== undefined) return;
    throw challenged(exchange, 'authentication is required');
  }
}

/** Upstreams that judge the credentials of callers themselves. */
export interface GuestUpstreams {
  judges(upstream: string): boolean;
  /**
   * Has an upstream judge whether a caller may read what it asks for.
   * @returns the upstream, asked with the caller's own credentials from then on
   * @throws RegistryError DENIED, or what the upstream says
   */
  admit(
    options: { readonly signal: AbortSignal },
    asked: { readonly guest: Guest; readonly selection: Selection; readonly request: RegistryRequest | undefined },
  ): Promise<Upstream>;
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
      rights.require(exchange, 'pull', `${selection.upstream.name}/${selection.repository}`);
      if (exchange.caller && guests.judges(selection.upstream.name)) {
        const { guest } = exchange;
        if (guest?.upstream !== selection.upstream.name) rights.challenge(exchange, selection);
        const upstream = await guests.admit(exchange, { guest, selection, request: exchange.request });
        exchange.selection = { ...selection, upstream };
      }
    }
    return await next();
  };
}

function forbidden(): RegistryError {
  return new RegistryError('forbidden', 'no policy of this mirror allows this to you');
}

/** One scheme only, and always the same realm and service: clients choose by the first that they see. */
function challenged(
  { realm }: Exchange,
  sentence: string,
  { scope, error }: { readonly scope?: string; readonly error?: string } = {},
): RegistryError {
  const parts = [`Bearer realm="${realm}"`, 'service="millpond"'];
  if (scope !== undefined) parts.push(`scope="${scope}"`);
  if (error !== undefined) parts.push(`error="${error}"`);
  return new RegistryError('unauthenticated', sentence, {
    headers: { 'WWW-Authenticate': parts.join(','), 'Cache-Control': 'no-store' },
  });
}
