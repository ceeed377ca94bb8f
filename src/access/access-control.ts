import { LRUCache } from 'lru-cache';
import { RegistryError } from '../oci/error.ts';
import { parseAuthorization } from './authorization.ts';
import type { Access, Action, Caller } from './caller.ts';
import type { Grant } from './grants.ts';
import { guestCaller, type Identities, type Origin } from './identities.ts';
import type { Identity, Proof } from './identity.ts';
import { type Decision, Policies, type PolicyRule } from './policies.ts';
import type { Tokens } from './tokens.ts';

/** The settings for callers. */
export interface AccessSettings {
  /** Where clients reach this mirror; `undefined`: where the request says. */
  readonly url?: string | undefined;
  readonly anonymous: boolean;
  /** Whether client certificates say who a caller is. */
  readonly certificates: boolean;
  readonly tokenExpiryMs: number;
  /** `undefined`: no refresh tokens. */
  readonly refreshTokenExpiryMs?: number | undefined;
  readonly policies: readonly PolicyRule[];
}

/** The credentials of a request. */
export interface Presented extends Origin {
  /** The `Authorization` header. */
  readonly authorization: string | undefined;
}

/** A caller, and what its token was asked for. */
export interface Identified {
  readonly caller: Caller;
  /** `undefined`: it has shown no token, which limits nothing. */
  readonly grants: readonly Grant[] | undefined;
  /** Credentials for one upstream, sealed. */
  readonly guest?: Guest | undefined;
  /** Whether what was shown would still be accepted now. */
  readonly isCurrent: () => boolean;
  /**
   * Until when the same credentials may be taken for this caller wherever they come from, as long as nothing changes that
   * callers are known by; wall clock in milliseconds. `undefined`: not at all.
   */
  readonly heldUntilMs: number | undefined;
}

/** Credentials that a caller has shown for one upstream. */
export type Guest = Extract<Proof, { readonly by: 'guest' }>;

/** An answer of the token service (distribution, "Token Authentication Specification"). */
export interface TokenAnswer {
  readonly token: string;
  readonly access_token: string;
  readonly expires_in: number;
  readonly refresh_token?: string;
}

export interface AccessControlOptions {
  /** Read each time; `undefined`: callers are not distinguished. */
  readonly settings: () => AccessSettings | undefined;
  readonly identities: Identities;
  readonly tokens: Tokens;
  /** Wall clock in milliseconds. */
  readonly now: () => number;
  /** The upstream of a repository as a scope names it, if it judges the credentials of callers itself. */
  readonly guestUpstream: (name: string) => string | undefined;
  /** Receives each refusal. */
  readonly onRefused: (event: RefusalEvent, fields: Readonly<Record<string, unknown>>) => void;
}

/** How long a caller is taken for granted, in milliseconds: an issuer may have replaced its keys meanwhile. */
const heldMs = 10_000;

/** Why a caller was refused. */
export type RefusalEvent = 'credentials refused' | 'access refused';

/** Whether credentials alone say what a caller may do: neither a certificate nor an address is part of them. */
export function credentialsDecide(settings: Pick<AccessSettings, 'certificates' | 'policies'>): boolean {
  return !settings.certificates && settings.policies.every(({ addresses }) => addresses.length === 0);
}

/** Finds out who asks, and what the policies say to it. */
export class AccessControl implements Access {
  readonly #options: AccessControlOptions;
  /** Rules of the settings in effect, compiled once. */
  #compiled: { readonly from: AccessSettings; readonly policies: Policies } | undefined;
  // Takes memory as it fills: `max` would take all of it at the start.
  readonly #callers = new LRUCache<string, Caller>({ maxSize: 20_000, sizeCalculation: () => 1 });

  constructor(options: AccessControlOptions) {
    this.#options = options;
  }

  /** The settings; `undefined`: callers are not distinguished at all. */
  get settings(): AccessSettings | undefined {
    return this.#options.settings();
  }

  /**
   * The caller of a request. Wrong credentials are never taken for none.
   * @throws RegistryError 401 where what was shown is wrong, 429 where the client has to wait before it may try again
   */
  async identify(presented: Presented): Promise<Identified> {
    const { identities, tokens } = this.#options;
    const shown = parseAuthorization(presented.authorization);
    if (shown?.scheme === 'bearer') {
      const content = await tokens.read(shown.token, { use: 'access', address: presented.address });
      if (content) {
        const identity = this.#current(content.identity);
        if (identity === undefined) throw this.#wrong(presented, 'a token that has been revoked');
        const { proof } = identity;
        const guest = proof.by === 'guest' ? proof : undefined;
        const isCurrent = (): boolean => this.#isCurrent(content.identity);
        const heldUntilMs = this.#heldUntilMs(content.identity);
        return { caller: this.#known(identity), grants: content.grants, guest, isCurrent, heldUntilMs };
      }
    }
    const identity = await identities.find(shown, presented);
    if (identity === undefined) throw this.#wrong(presented, shown?.scheme ?? 'certificate');
    const remembered = this.#trimmed(identity);
    const isCurrent = (): boolean => this.#isCurrent(remembered);
    const heldUntilMs = this.#heldUntilMs(identity);
    return { caller: this.#known(identity), grants: undefined, isCurrent, heldUntilMs };
  }

  /**
   * A token for who shows something.
   * @param options.isOffline whether a refresh token is wanted
   * @throws RegistryError 401, 429
   */
  async tokenFor(
    presented: Presented & { readonly refreshToken?: string | undefined },
    { grants, isOffline }: { readonly grants: readonly Grant[]; readonly isOffline: boolean },
  ): Promise<TokenAnswer> {
    const { settings } = this;
    if (!settings) throw new Error('callers are not distinguished');
    const identity = (await this.#guestFor(presented, grants)) ?? (await this.#identityFor(presented));
    if (identity === undefined) throw this.#wrong(presented, 'token service');
    const { caller, proof } = identity;
    if (proof.by === 'nothing' && !settings.anonymous) throw wrong('authentication is required');
    const { tokens } = this.#options;
    const content = { identity: this.#trimmed(identity), grants };
    const { token, lifeSeconds } = await tokens.issue(content, { use: 'access', lifeMs: settings.tokenExpiryMs });
    const answer = { token, access_token: token, expires_in: lifeSeconds };
    const { refreshTokenExpiryMs: lifeMs } = settings;
    if (!isOffline || lifeMs === undefined || caller.kind !== 'user' || proof.by !== 'password') return answer;
    const refresh = await tokens.issue({ identity, grants: [] }, { use: 'refresh', lifeMs });
    return { ...answer, refresh_token: presented.refreshToken ?? refresh.token };
  }

  may(caller: Caller | undefined, action: Action, repository: string | undefined): boolean {
    return caller === undefined || this.decide(caller, action, repository).isAllowed;
  }

  /** Whether a caller may do something, and which rule says so. */
  decide(caller: Caller, action: Action, repository: string | undefined): Decision {
    return this.#policies()?.decide(caller, action, repository) ?? { isAllowed: true, rule: 'auth is not configured' };
  }

  /** The credentials of a guest. @returns `undefined` for what was sealed elsewhere */
  async credentialsOf({ sealed }: Guest): Promise<{ readonly user: string; readonly password: string } | undefined> {
    const text = await this.#options.tokens.unseal(sealed);
    return text === undefined ? undefined : (JSON.parse(text) as { user: string; password: string });
  }

  /** The caller by its credentials of an upstream, where it asks for one repository of it and the configuration lets them go there. */
  async #guestFor(presented: Presented & { readonly refreshToken?: string | undefined }, grants: readonly Grant[]) {
    const { identities, tokens, guestUpstream } = this.#options;
    const shown = parseAuthorization(presented.authorization);
    if (shown?.scheme !== 'basic' || presented.refreshToken !== undefined || identities.isOurs(shown)) return undefined;
    const asked = grants.filter(({ type }) => type === 'repository').map(({ name }) => guestUpstream(name));
    const [upstream, ...others] = new Set(asked.filter((one) => one !== undefined));
    // Credentials are for one upstream: which one has to be plain.
    if (upstream === undefined || others.length > 0) return undefined;
    const { user, password } = shown;
    const sealed = await tokens.seal(JSON.stringify({ user, password }));
    const caller = guestCaller(user, { upstream, address: presented.address });
    return { caller, proof: { by: 'guest', upstream, sealed } } satisfies Identity;
  }

  /** Notes that a caller may not do what it asked for. */
  refused(
    { kind, name, address }: Caller,
    action: Action,
    asked: { repository: string | undefined; rule: string },
  ): void {
    this.#options.onRefused('access refused', { kind, caller: name, address, action, ...asked });
  }

  #wrong({ address }: Presented, shown: string): RegistryError {
    // The user name may be a password.
    this.#options.onRefused('credentials refused', { address, shown });
    return wrong();
  }

  async #identityFor(presented: Presented & { readonly refreshToken?: string | undefined }) {
    const { identities, tokens } = this.#options;
    const { refreshToken, authorization, address } = presented;
    if (refreshToken === undefined) return await identities.find(parseAuthorization(authorization), presented);
    const content = await tokens.read(refreshToken, { use: 'refresh', address });
    const identity = content && this.#current(content.identity);
    return identity && { ...identity, untilMs: undefined };
  }

  /** An identity as a token carries it: of what an issuer says, only what the policies look at. */
  #trimmed(identity: Identity): Identity {
    const policies = this.#policies();
    if (identity.proof.by !== 'issuer' || !policies) return identity;
    return {
      ...identity,
      caller: policies.trimmed(identity.caller),
      proof: { ...identity.proof, mark: policies.mark },
    };
  }

  /** Whether an identity would be accepted again; where callers are not distinguished any more, each is. */
  #isCurrent(identity: Identity): boolean {
    return this.settings === undefined || this.#current(identity) !== undefined;
  }

  /** The present state of an identity that was found out before; `undefined` where it would not be accepted again. */
  #current(identity: Identity): Identity | undefined {
    const { identities, now } = this.#options;
    const { proof, untilMs = Number.POSITIVE_INFINITY } = identity;
    if (untilMs <= now()) return undefined;
    if (proof.by === 'certificate' && this.settings?.certificates !== true) return undefined;
    return identities.current(identity, this.#mark());
  }

  #heldUntilMs({ untilMs = Number.POSITIVE_INFINITY }: Identity): number | undefined {
    const { settings } = this;
    if (settings !== undefined && !credentialsDecide(settings)) return undefined;
    return Math.min(untilMs, this.#options.now() + heldMs);
  }

  #mark(): string {
    return this.#policies()?.mark ?? '';
  }

  #policies(): Policies | undefined {
    const { settings } = this;
    if (settings === undefined) return undefined;
    if (this.#compiled?.from !== settings) this.#compiled = { from: settings, policies: new Policies(settings) };
    return this.#compiled.policies;
  }

  /** One object for one identity: what was decided for it is remembered with it. */
  #known({ caller }: Identity): Caller {
    const { kind, name, address, groups, claims, scope } = caller;
    const key = JSON.stringify([kind, name, address, groups, claims, scope]);
    let known = this.#callers.get(key);
    if (known === undefined) this.#callers.set(key, (known = caller));
    return known;
  }
}

function wrong(sentence = 'the credentials are wrong or have expired'): RegistryError {
  return new RegistryError('unauthenticated', sentence);
}
