import { parseChallenges } from './challenge.ts';
import type { RequestOptions } from './client.ts';
import type { HttpClient } from './http-client.ts';
import { openGate } from './passage.ts';
import { trustedRealm } from './realm.ts';
import { pullScopes } from './scopes.ts';
import { TokenCache } from './tokens.ts';

export interface ForeignTokensOptions {
  /** Name of the upstream, for error messages. */
  readonly upstream: string;
  readonly http: HttpClient;
  /** Longest time for a token, in milliseconds. */
  readonly timeoutMs: number;
  readonly now: () => number;
}

/** Tokens for anonymous clients from other registries than the upstream, where it redirects to one. */
export class ForeignTokens {
  readonly #options: ForeignTokensOptions;
  readonly #tokens: TokenCache;

  constructor(options: ForeignTokensOptions) {
    this.#options = options;
    this.#tokens = new TokenCache({
      ...options,
      gate: () => openGate,
      credential: () => Promise.resolve(undefined),
    });
  }

  /**
   * A token for what was asked of another registry.
   * @param options.challenge `WWW-Authenticate` of its 401
   * @returns `undefined` where it asks for something that anonymous clients do not have
   * @throws RegistryError where there is no token to be had; the signal's reason
   */
  async get({
    challenge,
    target,
    signal,
  }: RequestOptions & { challenge: string | undefined; target: URL }): Promise<string | undefined> {
    const { upstream, timeoutMs } = this.#options;
    const bearer = parseChallenges(challenge).find(({ scheme }) => scheme === 'bearer');
    const realm = bearer?.parameters.get('realm');
    const scope = pullScopes(bearer?.parameters.get('scope'))[0] ?? scopeOf(target);
    if (realm === undefined || scope === undefined) return undefined;
    const service = {
      realm: trustedRealm(realm, { upstream, endpoint: target, tokenRealms: [] }),
      service: bearer?.parameters.get('service'),
    };
    return await this.#tokens.get(target.host, { service, scope, signal, timeoutMs });
  }
}

function scopeOf({ pathname }: URL): string | undefined {
  const [, repository] = /^\/v2\/(.{1,300})\/(?:manifests|blobs|tags|referrers)\/[^/]+$/.exec(pathname) ?? [];
  return repository === undefined ? undefined : `repository:${repository}:pull`;
}
