import { parseChallenges } from './challenge.ts';
import type { RequestOptions } from './client.ts';
import { basicAuthorization, type Credential } from './credentials.ts';
import { credentialsRefused, unavailable } from './failures.ts';
import type { Gate } from './gate.ts';
import type { HttpClient } from './http-client.ts';
import { trustedRealm } from './realm.ts';
import { TokenCache, type TokenService } from './tokens.ts';

export interface AuthenticatorOptions {
  /** Name of the upstream, for error messages. */
  readonly upstream: string;
  readonly endpoint: URL;
  readonly tokenRealms: readonly string[];
  readonly http: HttpClient;
  /** Before the token service, which fails apart from the registry. */
  readonly gate: Gate;
  /** Longest time for a token, in milliseconds. */
  readonly timeoutMs: number;
  readonly credential: () => Promise<Credential | undefined>;
  readonly now: () => number;
}

type Demand = { readonly kind: 'basic' } | { readonly kind: 'bearer'; readonly service: TokenService };

/** Knows what one endpoint wants to see in `Authorization`: nothing, Basic, or a token for each repository. */
export class Authenticator {
  readonly #options: AuthenticatorOptions;
  readonly #tokens: TokenCache;
  /** What the last challenge asked for, so that the next request brings it along at once. */
  #demand: Demand | undefined;

  constructor(options: AuthenticatorOptions) {
    this.#options = options;
    this.#tokens = new TokenCache(options);
  }

  /** What is shown now; tokens that were had for something else are used no more. @throws RegistryError UNAVAILABLE */
  credential(): Promise<Credential | undefined> {
    return this.#tokens.credential();
  }

  /**
   * The header to send with the first try; `undefined` as long as no challenge is known.
   * @throws RegistryError DENIED, TOOMANYREQUESTS, UNAVAILABLE where there is no token to be had
   */
  async authorization(repository: string, { signal }: RequestOptions): Promise<string | undefined> {
    return this.#demand && (await this.#answer(this.#demand, { repository, signal }));
  }

  /**
   * The header to send after a 401.
   * @param options.challenge `WWW-Authenticate` of the 401
   * @param options.refused what was sent with the request that got the 401
   * @throws RegistryError DENIED where there is nothing else to send; TOOMANYREQUESTS, UNAVAILABLE
   */
  async renew(
    repository: string,
    options: RequestOptions & { readonly challenge: string | undefined; readonly refused: string | undefined },
  ): Promise<string> {
    const { refused, signal } = options;
    const demand = this.#readDemand(options.challenge);
    this.#demand = demand;
    if (refused?.startsWith('Bearer ') === true) this.#tokens.drop(repository, refused.slice('Bearer '.length));
    const authorization = demand && (await this.#answer(demand, { repository, signal }));
    if (authorization !== undefined && authorization !== refused) return authorization;
    throw credentialsRefused(this.#options.upstream, { repository, status: 401 });
  }

  async #answer(
    demand: Demand,
    { repository, signal }: RequestOptions & { readonly repository: string },
  ): Promise<string | undefined> {
    if (demand.kind === 'bearer') {
      return `Bearer ${await this.#tokens.get(repository, { service: demand.service, signal })}`;
    }
    const credential = await this.credential();
    return credential?.kind === 'basic' ? basicAuthorization(credential) : undefined;
  }

  #readDemand(header: string | undefined): Demand | undefined {
    const challenges = parseChallenges(header);
    const bearer = challenges.find(({ scheme }) => scheme === 'bearer');
    if (bearer === undefined)
      return challenges.some(({ scheme }) => scheme === 'basic') ? { kind: 'basic' } : undefined;
    const realm = bearer.parameters.get('realm');
    if (realm === undefined) throw unavailable(this.#options.upstream, 'asks for a token without saying where');
    return {
      kind: 'bearer',
      service: { realm: trustedRealm(realm, this.#options), service: bearer.parameters.get('service') },
    };
  }
}
