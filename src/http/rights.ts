import type { AccessControl, Guest } from '../access/access-control.ts';
import type { Action } from '../access/caller.ts';
import { isGranted, isListingGranted, listingScope } from '../access/grants.ts';
import { RegistryError } from '../oci/error.ts';
import { callersFact } from '../oci/facts.ts';
import type { RegistryRequest } from '../oci/request.ts';
import type { Selection } from '../upstream/selection.ts';
import type { Upstream } from '../upstream/upstream.ts';
import type { Exchange, Right } from './exchange.ts';

/** Refuses, in the same way whether it is here or not, what the caller may not have. */
export class Rights {
  readonly #access: AccessControl;

  readonly #guests: GuestUpstreams;

  constructor(access: AccessControl, guests: GuestUpstreams) {
    this.#access = access;
    this.#guests = guests;
  }

  /** Whether the policies let a caller do something, whatever its token was asked for. @param repository `undefined`: the mirror itself */
  may({ caller }: Exchange, action: Action, repository: string | undefined): boolean {
    // Which of its repositories a caller may read only that upstream knows.
    if (caller && action === 'search' && this.#guests.judges(repository?.split('/', 1)[0] ?? '')) return false;
    return this.#access.may(caller, action, repository);
  }

  /** Whether a caller may know of a repository: for lists, of which a token shows what it was asked for. */
  mayKnow(exchange: Exchange, repository: string): boolean {
    const { grants } = exchange;
    if (!this.may(exchange, 'search', repository)) return false;
    if (grants === undefined || isListingGranted(grants)) return true;
    return ['pull', 'search'].some((action) => isGranted(grants, action, [repository]));
  }

  /** Whether a caller may do something with its token; nothing is asked of the client. */
  mayWithToken(exchange: Exchange, action: Action, repository: string): boolean {
    const { grants } = exchange;
    return this.may(exchange, action, repository) && (grants === undefined || isGranted(grants, action, [repository]));
  }

  /**
   * Lets a caller have a list over all repositories, each of which has still to be looked at by {@link mayKnow}.
   * @throws RegistryError 401 where its token was not asked for that
   */
  requireListing(exchange: Exchange): void {
    const { caller, grants } = exchange;
    if (caller === undefined || (grants === undefined ? caller.kind !== 'anonymous' : isListingGranted(grants))) return;
    const sentence = grants === undefined ? 'authentication is required' : 'the token is not for lists of repositories';
    const error = grants === undefined ? {} : { error: 'insufficient_scope' };
    throw challenged(exchange, sentence, { scope: listingScope, ...error });
  }

  /**
   * @param repository by its full name
   * @throws RegistryError 401 for a caller that could show more, 403 for others
   */
  require(exchange: Exchange, action: Action, repository: string): void {
    const { caller, grants } = exchange;
    if (caller === undefined) return;
    const scope = `repository:${repository}:${action === 'push' ? 'pull,push' : action}`;
    const { isAllowed, rule } = this.#access.decide(caller, action, repository);
    if (!isAllowed) {
      // A caller without credentials is challenged where all need them, which is not a refusal.
      if (caller.kind !== 'anonymous' || this.#access.settings?.anonymous === true) {
        this.#access.refused(caller, action, { repository, rule });
      }
      // A caller that has shown a token was challenged before.
      if (caller.kind === 'anonymous') {
        const error = grants === undefined ? {} : { error: 'insufficient_scope' };
        throw challenged(exchange, 'authentication is required', { scope, ...error });
      }
      throw forbidden();
    }
    if (!hasScope(exchange, action, repository)) {
      throw challenged(exchange, 'the token is not for this', { scope, error: 'insufficient_scope' });
    }
  }

  /**
   * On what it rests that a caller may pull from a repository with what it has shown.
   * @param repository by its full name
   * @returns `undefined` where it may not any more, or where that is to be decided each time
   */
  ofPull(exchange: Exchange, repository: string): Right | undefined {
    const { caller, heldUntilMs, isCurrent } = exchange;
    if (!caller || heldUntilMs === undefined || !isCurrent()) return undefined;
    if (!this.may(exchange, 'pull', repository) || !hasScope(exchange, 'pull', repository)) return undefined;
    return { facts: [callersFact], untilMs: heldUntilMs };
  }

  /**
   * As {@link require}, for what only this mirror knows of a repository: where the upstream judges callers, it is shown to none.
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

/** Whether the token of a caller was asked for this, by either name: clients ask by the one that they use themselves. */
function hasScope({ grants, request }: Exchange, action: Action, repository: string): boolean {
  const asked = request && 'name' in request ? request.name : repository;
  return grants === undefined || isGranted(grants, action, [repository, asked]);
}

function forbidden(): RegistryError {
  return new RegistryError('forbidden', 'no policy of this mirror allows this to you');
}

/** A refusal that asks for a token: one scheme only, and always the same realm and service: clients choose by the first that they see. */
export function challenged(
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
