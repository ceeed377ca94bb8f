import { LRUCache } from 'lru-cache';
import { hasReason, RegistryError } from '../oci/error.ts';
import { type Challenge, parseChallenges } from './challenge.ts';
import type { RequestOptions } from './client.ts';
import { basicAuthorization } from './credentials/credential.ts';
import type { Identity } from './credentials/source.ts';
import type { Slot } from './credentials/wallet.ts';
import { endpointPath } from './endpoint-path.ts';
import { unavailable } from './failures.ts';
import type { Profile } from './profile.ts';
import { trustedRealm } from './realm.ts';
import { RootChallenge, type RootChallengeOptions } from './root-challenge.ts';
import { pullScopes } from './scopes.ts';
import { type TokenAsker, TokenCache, type TokenService } from './tokens.ts';

export interface AuthenticatorOptions extends Omit<TokenAsker, 'credential'>, Pick<RootChallengeOptions, 'ping'> {
  readonly endpoint: URL;
  readonly tokenRealms: readonly string[];
  /** Facts learned about the endpoint. */
  readonly profile: Profile;
}

/** The demand of a repository: Basic credentials, or a token. */
type Demand =
  | { readonly kind: 'basic' }
  | { readonly kind: 'bearer'; readonly service: TokenService; readonly scope: string };

/** A request that is about to be sent. */
export interface SlotOptions extends RequestOptions {
  /** The credential that it is sent with. */
  readonly slot: Slot;
}

/** The challenge of a 401, and the request that got it. */
export interface Renewal extends SlotOptions {
  readonly challenge: string | undefined;
  readonly refused: string | undefined;
  readonly isFresh: boolean;
}

const bearer = 'Bearer ';

/** How many repositories' demands are remembered, and for how long nothing is heard of them. */
const maxDemands = 2_000;
const demandTtlMs = 3_600_000;
/** How long a repository that gave nothing without a token is not asked without one. */
const needMs = 60_000;
/** The part of a token's time that a repository waits for one of which it is not known that it needs any. */
const guessShare = 0.25;

/**
 * Remembers what one endpoint demands in `Authorization`, per repository: nothing, Basic, or a token. What
 * one repository demands is a guess for the others only after it has worked, and none of them waits long for a token:
 * if there is none, the request is sent without one.
 */
export class Authenticator {
  readonly #options: AuthenticatorOptions;
  /** The tokens that each credential was given. */
  readonly #tokens = new Map<Slot, TokenCache>();
  readonly #demands = new LRUCache<string, Demand>({ max: maxDemands, ttl: demandTtlMs });
  /** The demand that was met last: the first request for a new repository meets it at once. */
  #guess: Demand | undefined;
  #service: TokenService | undefined;
  /** Repositories that gave nothing without a token, and until when that is believed. */
  readonly #needy = new LRUCache<string, number>({ max: maxDemands });
  /** The challenge of `/v2/`. */
  readonly #root: RootChallenge;

  constructor(options: AuthenticatorOptions) {
    this.#options = options;
    this.#root = new RootChallenge(options);
  }

  /** Distinguishes a credential from others; forgets tokens that were obtained with a former one. @throws RegistryError no-credentials */
  async identityOf(slot: Slot): Promise<Identity | undefined> {
    const identity = await slot.source?.identity();
    if (identity !== undefined && 'credential' in identity) this.#tokens.get(slot)?.hold(identity.credential);
    return identity;
  }

  /** Whether there is a credential to send. @throws RegistryError no-credentials; the signal's reason */
  async hasCredential({ slot, signal }: SlotOptions): Promise<boolean> {
    return (await this.#tokensOf(slot).credential({ signal })) !== undefined;
  }

  /**
   * A credential, not a token, was refused: if it is one that expires, it is renewed.
   * @param options `sent`: the header that was refused; absent: a token service refused it, and had been `shown` before
   * @returns whether there is another one now
   */
  async hasRenewed(options: SlotOptions & { readonly sent?: string; readonly shown?: string }): Promise<boolean> {
    const { slot, signal, sent, shown = '' } = options;
    const { source } = slot;
    const credential = await source?.get({ signal });
    if (source === undefined || credential === undefined) return false;
    if (sent !== undefined && credential.kind === 'basic' && basicAuthorization(credential) !== sent) return true;
    if (this.#tokensOf(slot).isOther(shown, credential)) return true;
    return await source.refused(credential, { signal });
  }

  /**
   * The header for the first attempt: none if nothing is known to be demanded, or if what is demanded is not
   * available: the response shows whether it was needed. `failure`: why it is not available.
   * @throws Refusal if it is known to be needed and is not available now; the signal's reason
   */
  async authorization(
    repository: string,
    { slot, signal }: SlotOptions,
  ): Promise<{ readonly header?: string | undefined; readonly failure?: RegistryError }> {
    const known = this.#demands.get(repository);
    const demand = known ?? (this.#guess && this.#guessFor(repository, this.#guess));
    if ((this.#needy.get(repository) ?? 0) > this.#options.now()) this.#options.gate(repository).check();
    if (demand === undefined) return {};
    const isGuess = known === undefined;
    try {
      return { header: await this.#answer(demand, { repository, slot, signal, isGuess }) };
    } catch (error) {
      if (signal.aborted || !(error instanceof RegistryError)) throw error;
      this.#forget(repository);
      return { failure: error };
    }
  }

  /**
   * The header to send after a 401.
   * @param options.challenge `WWW-Authenticate` of the 401
   * @param options.refused what was sent with the request that got the 401
   * @param options.isFresh whether that was obtained after another 401: a new token is refused for its scope
   * @returns `undefined` where there is nothing else to send
   * @throws RegistryError denied, limited, unreachable … where there is no token to be had
   */
  async renew(repository: string, options: Renewal): Promise<string | undefined> {
    const { challenge, refused, isFresh, slot, signal } = options;
    const known = this.#demands.get(repository);
    if (refused === undefined) this.#needy.set(repository, this.#options.now() + needMs);
    if (refused?.startsWith(bearer) === true) this.#tokensOf(slot).drop(refused.slice(bearer.length));
    const isRenewed = isBasic(refused) && (await this.hasRenewed({ slot, signal, sent: refused }));
    for (const demand of this.#readDemands(challenge, repository)) {
      if (isFresh && !isRenewed && isSame(known, demand)) continue;
      this.#demands.set(repository, demand);
      const authorization = await this.#answer(demand, { repository, slot, signal, isGuess: false });
      if (authorization !== undefined && authorization !== refused) return authorization;
    }
    return undefined;
  }

  /**
   * The header to send after a "no" without any challenge, where `/v2/` demands something.
   * @returns `undefined` where it demands nothing, or what it demands cannot be had
   */
  async pinged(repository: string, { slot, signal }: SlotOptions): Promise<string | undefined> {
    const challenge = await this.#root.get(signal);
    const [demand] = challenge === undefined ? [] : this.#readDemands(challenge, repository);
    if (demand === undefined) return undefined;
    const authorization = await this.#answer(demand, { repository, slot, signal, isGuess: false });
    if (authorization === undefined) return undefined;
    this.#demands.set(repository, demand);
    this.#options.profile.learn('challenge', 'at /v2/');
    return authorization;
  }

  /** Forgets a refused token that may have expired, having been obtained some time ago. @returns whether it was one */
  dropAged(slot: Slot, header: string): boolean {
    return header.startsWith(bearer) && this.#tokensOf(slot).dropAged(header.slice(bearer.length));
  }

  /** The upstream has accepted the credential: it is worth a try at other repositories too. */
  accepted(repository: string): void {
    const demand = this.#demands.get(repository);
    if (demand === undefined) return;
    this.#guess = demand;
    if (demand.kind !== 'bearer') return;
    this.#options.profile.learn('tokenScope', demand.scope === this.#ownScope(repository) ? 'own' : 'challenge');
  }

  /** The address of the token service that was asked last, without any scope; `undefined` where there was none. */
  tokenService(): URL | undefined {
    if (this.#service === undefined) return undefined;
    const url = new URL(this.#service.realm);
    if (this.#service.service !== undefined) url.searchParams.set('service', this.#service.service);
    return url;
  }

  #forget(repository: string): void {
    this.#demands.delete(repository);
    this.#guess = undefined;
  }

  /** The demand to expect here, from another repository's demand. */
  #guessFor(repository: string, guess: Demand): Demand | undefined {
    if (guess.kind === 'basic') return guess;
    // The other scope is known only after a challenge.
    return this.#options.profile.get('tokenScope') === 'own'
      ? { ...guess, scope: this.#ownScope(repository) }
      : undefined;
  }

  async #answer(
    demand: Demand,
    options: SlotOptions & { readonly repository: string; readonly isGuess: boolean },
  ): Promise<string | undefined> {
    const { repository, slot, signal, isGuess } = options;
    if (demand.kind === 'bearer') {
      const { service, scope } = demand;
      this.#service = service;
      const timeoutMs = this.#options.timeoutMs * (isGuess ? guessShare : 1);
      const tokens = this.#tokensOf(slot);
      const { shown } = tokens;
      const get = () => tokens.get(repository, { service, scope, signal, timeoutMs });
      const token = await get().catch(async (error: unknown) => {
        if (!mayBeExpiry(error) || !(await this.hasRenewed({ slot, signal, shown }))) throw error;
        // From now on it is not shared with a request that was sent with the old one.
        await tokens.credential({ signal });
        return await get();
      });
      return `${bearer}${token}`;
    }
    const credential = await this.#tokensOf(slot).credential({ signal });
    return credential?.kind === 'basic' ? basicAuthorization(credential) : undefined;
  }

  #tokensOf(slot: Slot): TokenCache {
    const known = this.#tokens.get(slot);
    if (known !== undefined) return known;
    const { source } = slot;
    const credential = async (asked: RequestOptions) => await source?.get(asked);
    const tokens = new TokenCache({ ...this.#options, credential });
    this.#tokens.set(slot, tokens);
    return tokens;
  }

  /** The ways to meet a challenge, best first. @throws RegistryError bad-answer where only a token would do, and no realm for it may be asked */
  #readDemands(header: string | undefined, repository: string): Demand[] {
    const challenges = parseChallenges(header);
    const demands: Demand[] = [];
    let unusable: RegistryError | undefined;
    for (const challenge of challenges.filter(({ scheme }) => scheme === 'bearer')) {
      try {
        demands.push(...this.#readBearer(challenge, repository));
      } catch (error) {
        if (!(error instanceof RegistryError) || !hasReason(error, 'bad-answer')) throw error;
        unusable ??= error;
      }
    }
    if (challenges.some(({ scheme }) => scheme === 'basic')) demands.push({ kind: 'basic' });
    if (demands.length === 0 && unusable !== undefined) throw unusable;
    return demands;
  }

  #readBearer({ parameters }: Challenge, repository: string): Demand[] {
    const { upstream, endpoint, tokenRealms } = this.#options;
    const text = parameters.get('realm');
    if (text === undefined) throw unavailable(upstream, 'asks for a token without saying where');
    const realm = trustedRealm(text, { upstream, endpoint, tokenRealms });
    const own = this.#ownScope(repository);
    const told = pullScopes(parameters.get('scope')).filter((scope) => scope !== own);
    const scopes = this.#options.profile.get('tokenScope') === 'challenge' ? [...told, own] : [own, ...told];
    const service = { realm, service: parameters.get('service') };
    return scopes.map((scope) => ({ kind: 'bearer', service, scope }));
  }

  /** The scope of the path that is really asked: an endpoint may be at a path below `/v2/`. */
  #ownScope(repository: string): string {
    const [, prefix = ''] = /^\/v2\/(.+)$/.exec(endpointPath(this.#options.endpoint)) ?? [];
    return `repository:${prefix === '' ? '' : `${prefix}/`}${repository}:pull`;
  }
}

/** Whether a header has a credential itself, and no token. */
export function isBasic(header: string | undefined): header is string {
  return header?.startsWith('Basic ') === true;
}

/** Whether a token service may have refused a credential because it has expired. */
function mayBeExpiry(error: unknown): boolean {
  if (hasReason(error, 'denied')) return true;
  return error instanceof RegistryError && error.detail?.['upstreamStatus'] === 400;
}

function isSame(known: Demand | undefined, demand: Demand): boolean {
  if (known?.kind !== 'bearer' || demand.kind !== 'bearer') return known?.kind === demand.kind;
  return known.scope === demand.scope && known.service.realm.href === demand.service.realm.href;
}
