import type { JSONWebKeySet } from 'jose';
import type { FetchJson } from './fetch-json.ts';

/** How long keys are used before they are asked for again, and at most if that fails; in milliseconds. */
const freshMs = 10 * 60_000;
const staleMs = 24 * 3_600_000;
/** How long at least between two questions, however many tokens name an unknown key; in milliseconds. */
const cooldownMs = 30_000;

export interface IssuerKeysOptions {
  readonly issuer: string;
  /** Absent: where the discovery document says. */
  readonly jwks: string | undefined;
  readonly fetch: FetchJson;
  readonly now: () => number;
}

/** The public keys of an issuer, as it publishes them now. */
export class IssuerKeys {
  readonly #options: IssuerKeysOptions;
  #last: { readonly keys: JSONWebKeySet; readonly atMs: number } | undefined;
  #askedAtMs = Number.NEGATIVE_INFINITY;
  #asking: Promise<JSONWebKeySet> | undefined;

  constructor(options: IssuerKeysOptions) {
    this.#options = options;
  }

  /** @throws Error where they were never had, or too long ago */
  async get(): Promise<JSONWebKeySet> {
    const ageMs = this.#options.now() - (this.#last?.atMs ?? Number.NEGATIVE_INFINITY);
    if (this.#last && (ageMs < freshMs || this.#isCoolingDown)) return this.#last.keys;
    try {
      return await this.#ask();
    } catch (error) {
      if (this.#last && ageMs < staleMs) return this.#last.keys;
      throw error;
    }
  }

  /** Asks again, since a token names an unknown key. @returns `undefined` where that was done a moment ago, or fails */
  async getNew(): Promise<JSONWebKeySet | undefined> {
    if (this.#isCoolingDown) return undefined;
    return await this.#ask().catch(() => undefined);
  }

  get #isCoolingDown(): boolean {
    return this.#options.now() - this.#askedAtMs < cooldownMs && this.#last !== undefined;
  }

  async #ask(): Promise<JSONWebKeySet> {
    this.#asking ??= this.#fetchKeys().finally(() => {
      this.#asking = undefined;
    });
    return await this.#asking;
  }

  async #fetchKeys(): Promise<JSONWebKeySet> {
    const { issuer, jwks, fetch, now } = this.#options;
    this.#askedAtMs = now();
    const url = jwks ?? (await this.#discovered());
    const { status, body } = await fetch({ url: new URL(url) });
    const keys = body as JSONWebKeySet | undefined;
    if (status !== 200 || !Array.isArray(keys?.keys))
      throw new Error(`the keys of ${issuer} were answered with ${status}`);
    this.#last = { keys, atMs: now() };
    return keys;
  }

  /** OpenID Connect Discovery 1.0, 4. */
  async #discovered(): Promise<string> {
    const { issuer, fetch } = this.#options;
    const url = new URL(`${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`);
    const { status, body } = await fetch({ url });
    const document = body as { issuer?: unknown; jwks_uri?: unknown } | undefined;
    const found = document?.jwks_uri;
    if (status !== 200 || document?.issuer !== issuer || typeof found !== 'string' || !URL.canParse(found)) {
      throw new Error(`the discovery document of ${issuer} cannot be used`);
    }
    if (issuer.startsWith('https:') && !found.startsWith('https:')) {
      throw new Error(`the keys of ${issuer} are not at https`);
    }
    return found;
  }
}
