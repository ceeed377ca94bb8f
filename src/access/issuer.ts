import { createHash } from 'node:crypto';
import type { JSONWebKeySet, JWTPayload } from 'jose';
import { LRUCache } from 'lru-cache';
import { RegistryError } from '../oci/error.ts';
import type { FetchJson } from './fetch-json.ts';
import { IssuerKeys } from './issuer-keys.ts';

/** Longest token that is looked at, in characters. */
const maxTokenLength = 16 * 1024;
/** Clocks may differ by so much, in seconds. */
const skewSeconds = 60;
/** How long a token that was found good is not looked at again, in milliseconds. */
const goodMs = 60_000;
/** The algorithms that may sign a token: those of public keys alone, and never one because the token names it. */
const algorithms = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA'];

/** Someone whose tokens say who a caller is. */
export interface IssuerSettings {
  /** `iss`, exactly. */
  readonly issuer: string;
  /** `aud` that a token has to name, and that no other service should accept. */
  readonly audience: string;
  /** Where its keys are; absent: where its discovery document says. */
  readonly jwks?: string | undefined;
  /** The content of a JWKS, instead. */
  readonly keys?: string | undefined;
  /** The API server that is asked about each token (TokenReview), instead. */
  readonly tokenReview?: string | undefined;
  /** Goes before names and groups, so that they are no one else's. */
  readonly prefix: string;
  readonly userClaim: string;
  readonly groupsClaim: string;
}

/** The claims of a valid token. */
export interface IssuedIdentity {
  readonly name: string;
  readonly groups: readonly string[];
  readonly claims: Readonly<Record<string, unknown>>;
  /** When it ends, by the wall clock in milliseconds. */
  readonly untilMs: number;
}

/** Finds out whether tokens of one issuer are good. */
export class Issuer {
  readonly settings: IssuerSettings;
  /** Changes with what its tokens mean here. */
  readonly mark: string;
  readonly #fetch: FetchJson;
  readonly #now: () => number;
  readonly #good = new LRUCache<string, IssuedIdentity & { readonly lookAgainMs: number }>({ max: 10_000 });
  readonly #keys: IssuerKeys;

  constructor(settings: IssuerSettings, { fetch, now }: { readonly fetch: FetchJson; readonly now: () => number }) {
    this.settings = settings;
    const { keys: _, ...meaning } = settings;
    this.mark = createHash('sha256').update(JSON.stringify(meaning)).digest('base64url').slice(0, 12);
    this.#fetch = fetch;
    this.#now = now;
    this.#keys = new IssuerKeys({ issuer: settings.issuer, jwks: settings.jwks, fetch, now });
  }

  /**
   * The caller that a token belongs to.
   * @returns `undefined` for one that is not good
   * @throws RegistryError 503 where that cannot be found out now
   */
  async check(token: string): Promise<IssuedIdentity | undefined> {
    const id = createHash('sha256').update(token).digest('base64');
    const known = this.#good.get(id);
    const nowMs = this.#now();
    if (known && known.lookAgainMs > nowMs && known.untilMs > nowMs) return known;
    const found = await this.#find(token);
    if (found) this.#good.set(id, { ...found, lookAgainMs: nowMs + goodMs });
    return found;
  }

  async #find(token: string): Promise<IssuedIdentity | undefined> {
    const { tokenReview, prefix, userClaim, groupsClaim } = this.settings;
    if (tokenReview !== undefined) return await this.#review(token, tokenReview);
    const claims = await this.#verified(token);
    const name = claims?.[userClaim];
    if (claims?.exp === undefined || typeof name !== 'string' || name === '') return undefined;
    const groups = textsOf(claims[groupsClaim]).map((group) => `${prefix}${group}`);
    return { name: `${prefix}${name}`, groups, claims, untilMs: claims.exp * 1000 };
  }

  async #verified(token: string): Promise<JWTPayload | undefined> {
    const { issuer, audience, keys } = this.settings;
    // With the first token: a mirror without issuers does not load it.
    const { createLocalJWKSet, errors, jwtVerify } = await import('jose');
    const claims = { issuer, audience, requiredClaims: ['exp'] };
    const settings = { ...claims, algorithms, clockTolerance: skewSeconds, currentDate: new Date(this.#now()) };
    const verify = async (set: JSONWebKeySet): Promise<JWTPayload> =>
      (await jwtVerify(token, createLocalJWKSet(set), settings)).payload;
    try {
      if (keys !== undefined) return await verify(JSON.parse(keys) as JSONWebKeySet);
      const known = await this.#keys.get();
      try {
        return await verify(known);
      } catch (error) {
        const renewed = error instanceof errors.JWKSNoMatchingKey ? await this.#keys.getNew() : undefined;
        if (renewed === undefined) throw error;
        return await verify(renewed);
      }
    } catch (error) {
      if (error instanceof errors.JOSEError) return undefined;
      throw unavailable(issuer, error);
    }
  }

  /** Asks the API server, which knows of pods and service accounts that have been deleted (authentication.k8s.io/v1). */
  async #review(token: string, server: string): Promise<IssuedIdentity | undefined> {
    const { audience, prefix } = this.settings;
    const claims = claimsOf(token);
    if (!claims || claims.exp === undefined || claims.exp * 1000 <= this.#now()) return undefined;
    const { status, body } = await this.#fetch({
      url: new URL(`${server}/apis/authentication.k8s.io/v1/tokenreviews`),
      body: {
        apiVersion: 'authentication.k8s.io/v1',
        kind: 'TokenReview',
        spec: { token, audiences: [audience] },
      },
    });
    if (status !== 201 && status !== 200) throw unavailable(server, `status ${status}`);
    const review = (body as { status?: TokenReviewStatus } | undefined)?.status;
    const name = review?.user?.username;
    if (review?.authenticated !== true || !review.audiences?.includes(audience) || typeof name !== 'string') {
      return undefined;
    }
    const groups = textsOf(review.user?.groups).map((group) => `${prefix}${group}`);
    return { name: `${prefix}${name}`, groups, claims, untilMs: claims.exp * 1000 };
  }
}

interface TokenReviewStatus {
  readonly authenticated?: boolean;
  readonly audiences?: readonly string[];
  readonly user?: { readonly username?: unknown; readonly groups?: unknown };
}

/** The claims of a token, before they are verified. */
export function claimsOf(token: string): JWTPayload | undefined {
  if (token.length > maxTokenLength || !/^eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/.test(token))
    return undefined;
  try {
    const [, payload = ''] = token.split('.');
    const claims: unknown = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8'));
    const isObject = typeof claims === 'object' && claims !== null && !Array.isArray(claims);
    return isObject ? (claims as JWTPayload) : undefined;
  } catch {
    return undefined;
  }
}

function textsOf(value: unknown): readonly string[] {
  const all: unknown[] = Array.isArray(value) ? value : [value];
  return all.filter((one) => typeof one === 'string');
}

function unavailable(of: string, cause: unknown): RegistryError {
  return new RegistryError('identity-unknown', 'the token cannot be checked now; try again later', {
    headers: { 'Retry-After': '5' },
    cause: new Error(`${of} cannot be asked`, { cause }),
  });
}
