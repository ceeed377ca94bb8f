import { LRUCache } from 'lru-cache';
import { drain, readBounded } from '../transport/body.ts';
import { SharedWork } from '../waiting/shared-work.ts';
import type { RequestOptions } from './client.ts';
import { basicAuthorization, type Credential } from './credentials/credential.ts';
import { denied, pauseOf, rateLimited, unavailable } from './failures.ts';
import type { HttpAnswer, HttpClient, HttpRequest } from './http-client.ts';
import type { RequestGate } from './passage.ts';

const maxTokens = 2_000;
const maxTokenCacheBytes = 8 * 1024 * 1024;
const maxAnswerBytes = 256 * 1024;

/** A token lives for this long where its answer does not say, or says less ("Token Response Fields"). */
const leastLifetimeSeconds = 60;

/** A token is renewed when this part of its life is over, so that none expires on the way. */
const usableShare = 0.8;

/** Where the tokens of an endpoint come from. */
export interface TokenService {
  /** Found to be trusted. */
  readonly realm: URL;
  readonly service: string | undefined;
}

/** What it takes to ask for tokens. */
export interface TokenAsker {
  /** Name of the upstream, for error messages. */
  readonly upstream: string;
  readonly http: HttpClient;
  /** Before the token service's requests for a repository. */
  readonly gate: (repository: string) => RequestGate;
  /** Longest time for a token, its body included, in milliseconds. */
  readonly timeoutMs: number;
  readonly credential: (options: RequestOptions) => Promise<Credential | undefined>;
  readonly now: () => number;
}

/** A token that is asked for. */
export interface TokenWish extends RequestOptions {
  readonly service: TokenService;
  readonly scope: string;
  /** Longest time for it, in milliseconds. */
  readonly timeoutMs: number;
}

interface CachedToken {
  readonly token: string;
  readonly renewAtMs: number;
}

/** The Bearer tokens of one endpoint, one for each realm and scope (distribution's "Token Authentication Specification"). */
export class TokenCache {
  readonly #options: TokenAsker;
  readonly #requests = new SharedWork<string>();
  /** What was shown last, and how often that has changed. */
  #shown = '';
  #generation = 0;
  readonly #tokens = new LRUCache<string, CachedToken>({
    max: maxTokens,
    maxSize: maxTokenCacheBytes,
    sizeCalculation: ({ token }, key) => token.length + key.length,
  });

  constructor(options: TokenAsker) {
    this.#options = options;
  }

  /**
   * A token for a scope: the cached one, or a new one by one request for all who wait.
   * @param repository the one it is needed for: what its request fails with is known of this repository alone
   * @throws RegistryError denied, limited, unreachable, timeout, bad-answer …; Refusal; the signal's reason
   */
  async get(repository: string, options: TokenWish): Promise<string> {
    const { service, scope, signal } = options;
    const key = `${service.realm.href} ${service.service ?? ''} ${scope}`;
    const cached = this.#tokens.get(key);
    if (cached !== undefined && cached.renewAtMs > this.#options.now()) return cached.token;
    return this.#requests.join(`${this.#generation} ${options.timeoutMs} ${key}`, {
      signal,
      begin: (shared) => this.#request(key, { ...options, repository, signal: shared }),
    });
  }

  /** What the token service is sent now; tokens that were obtained with something else are forgotten. @throws RegistryError */
  async credential(options: RequestOptions): Promise<Credential | undefined> {
    const credential = await this.#options.credential(options);
    this.hold(credential);
    return credential;
  }

  /** Tokens that were obtained with another credential than the current one are forgotten. */
  hold(credential: Credential | undefined): void {
    const shown = JSON.stringify(credential ?? null);
    if (this.#shown !== '' && this.#shown !== shown) {
      this.#generation += 1;
      this.#tokens.clear();
    }
    this.#shown = shown;
  }

  /** Forgets a token that was refused, unless another has taken its place meanwhile. */
  drop(token: string): void {
    for (const [key, entry] of this.#tokens) if (entry.token === token) this.#tokens.delete(key);
  }

  async #request(key: string, { repository, service, scope, signal, timeoutMs }: TokenWish & { repository: string }) {
    const { http, gate, now } = this.#options;
    const request = tokenRequest(scope, { service, credential: await this.credential({ signal }) });
    const generation = this.#generation;
    const limited = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
    const answer = await http.send({
      ...request,
      gate: gate(repository),
      lane: 'metadata',
      redirects: 'same-origin',
      signal: limited,
    });
    const { token, lifetimeSeconds } = await this.#read(answer, { repository, isAnonymous: request.isAnonymous });
    const renewAtMs = now() + lifetimeSeconds * 1000 * usableShare;
    if (generation === this.#generation) this.#tokens.set(key, { token, renewAtMs });
    return token;
  }

  async #read(
    answer: HttpAnswer,
    { repository, isAnonymous }: { readonly repository: string; readonly isAnonymous: boolean },
  ): Promise<{ token: string; lifetimeSeconds: number }> {
    const { upstream, now } = this.#options;
    const { status, headers, body } = answer;
    if (status !== 200) {
      await drain(body);
      const pauseMs = pauseOf({ status, retryAfter: headers['retry-after'], code: answer.code }, now());
      if (pauseMs !== undefined) throw rateLimited(upstream, { status, pauseMs, service: 'token service' });
      if (status === 401 || status === 403) {
        throw denied(upstream, { repository, status, shown: !isAnonymous, place: 'token service' });
      }
      throw unavailable(upstream, `has a token service that answered ${status}`, {
        reason: 'bad-status',
        detail: { upstreamStatus: status },
      });
    }
    const bytes = await readBounded(body, maxAnswerBytes);
    const fields = bytes === undefined ? {} : parseFields(bytes);
    const token = [fields.token, fields.access_token].find((value) => typeof value === 'string' && value !== '');
    // Whatever it is, it becomes a header.
    if (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token)) {
      throw unavailable(upstream, 'has a token service that answered without a token');
    }
    const lifetime = Number(fields.expires_in ?? leastLifetimeSeconds);
    return {
      token,
      lifetimeSeconds: Number.isFinite(lifetime) ? Math.max(leastLifetimeSeconds, lifetime) : leastLifetimeSeconds,
    };
  }
}

function tokenRequest(
  scope: string,
  { service, credential }: { service: TokenService; credential: Credential | undefined },
): Pick<HttpRequest, 'method' | 'url' | 'headers' | 'body'> & { readonly isAnonymous: boolean } {
  const url = new URL(service.realm);
  if (credential?.kind === 'refresh-token') {
    const form = new URLSearchParams({ grant_type: 'refresh_token', client_id: 'millpond', scope });
    if (service.service !== undefined) form.set('service', service.service);
    form.set('refresh_token', credential.token);
    const headers = { 'content-type': 'application/x-www-form-urlencoded', accept: 'application/json' };
    return { method: 'POST', url, headers, body: form.toString(), isAnonymous: false };
  }
  if (service.service !== undefined) url.searchParams.set('service', service.service);
  url.searchParams.set('scope', scope);
  const accept = { accept: 'application/json' };
  const headers = credential === undefined ? accept : { ...accept, authorization: basicAuthorization(credential) };
  return { method: 'GET', url, headers, isAnonymous: credential === undefined };
}

function parseFields(bytes: Buffer): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8'));
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
