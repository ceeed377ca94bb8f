import { LRUCache } from 'lru-cache';
import { drain, readBounded } from '../transport/body.ts';
import { SharedWork } from '../waiting/shared-work.ts';
import type { RequestOptions } from './client.ts';
import { basicAuthorization, type Credential } from './credentials.ts';
import { credentialsRefused, pauseOf, rateLimited, unavailable } from './failures.ts';
import type { Gate } from './gate.ts';
import type { HttpAnswer, HttpClient, HttpRequest } from './http-client.ts';

const maxTokens = 2_000;
const maxTokenCacheBytes = 8 * 1024 * 1024;
const maxAnswerBytes = 256 * 1024;

/** What the token specification says a token lives for where its answer does not ("Token Response Fields"). */
const defaultLifetimeSeconds = 60;

/** A token is renewed when this part of its life is over, so that none expires on the way. */
const usableShare = 0.8;

/** Where the tokens of an endpoint come from. */
export interface TokenService {
  /** Found to be trusted. */
  readonly realm: URL;
  readonly service: string | undefined;
}

export interface TokenCacheOptions {
  /** Name of the upstream, for error messages. */
  readonly upstream: string;
  readonly http: HttpClient;
  /** Before the token service. */
  readonly gate: Gate;
  /** Longest time for a token, its body included, in milliseconds. */
  readonly timeoutMs: number;
  readonly credential: () => Promise<Credential | undefined>;
  readonly now: () => number;
}

interface CachedToken {
  readonly token: string;
  readonly renewAtMs: number;
}

/** The Bearer tokens of one endpoint, one for each repository (distribution's "Token Authentication Specification"). */
export class TokenCache {
  readonly #options: TokenCacheOptions;
  readonly #requests = new SharedWork<string>();
  /** What was shown last, and how often that has changed. */
  #shown = '';
  #generation = 0;
  readonly #tokens = new LRUCache<string, CachedToken>({
    max: maxTokens,
    maxSize: maxTokenCacheBytes,
    sizeCalculation: ({ token }, key) => token.length + key.length,
  });

  constructor(options: TokenCacheOptions) {
    this.#options = options;
  }

  /**
   * A token that lets pull from a repository: the cached one, or a new one by one request for all who wait.
   * @throws RegistryError DENIED, TOOMANYREQUESTS, UNAVAILABLE
   */
  async get(repository: string, { service, signal }: RequestOptions & { service: TokenService }): Promise<string> {
    const cached = this.#tokens.get(repository);
    if (cached !== undefined && cached.renewAtMs > this.#options.now()) return cached.token;
    return this.#requests.join(`${this.#generation} ${repository}`, {
      signal,
      begin: (shared) => this.#request(repository, { service, signal: shared }),
    });
  }

  /** What the token service is shown now; tokens that were had for something else are forgotten. @throws RegistryError */
  async credential(): Promise<Credential | undefined> {
    const credential = await this.#options.credential();
    const shown = JSON.stringify(credential ?? null);
    if (this.#shown !== '' && this.#shown !== shown) {
      this.#generation += 1;
      this.#tokens.clear();
    }
    this.#shown = shown;
    return credential;
  }

  /** Forgets a token that was refused, unless another has taken its place meanwhile. */
  drop(repository: string, token: string): void {
    if (this.#tokens.peek(repository)?.token === token) this.#tokens.delete(repository);
  }

  async #request(repository: string, { service, signal }: RequestOptions & { service: TokenService }): Promise<string> {
    const { http, gate, timeoutMs, now } = this.#options;
    const request = tokenRequest(repository, { service, credential: await this.credential() });
    const generation = this.#generation;
    const limited = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
    const answer = await http.send({ ...request, gate, lane: 'metadata', redirects: 'same-origin', signal: limited });
    const { token, lifetimeSeconds } = await this.#read(answer, repository);
    const renewAtMs = now() + lifetimeSeconds * 1000 * usableShare;
    if (generation === this.#generation) this.#tokens.set(repository, { token, renewAtMs });
    return token;
  }

  async #read(answer: HttpAnswer, repository: string): Promise<{ token: string; lifetimeSeconds: number }> {
    const { upstream, now } = this.#options;
    const { status, headers, body } = answer;
    if (status !== 200) {
      await drain(body);
      if (status === 401 || status === 403) throw credentialsRefused(upstream, { repository, status });
      const pauseMs = pauseOf({ status, retryAfter: headers['retry-after'] }, now());
      if (pauseMs !== undefined) throw rateLimited(upstream, { status, pauseMs, service: 'token service' });
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
    const lifetime = Number(fields.expires_in ?? defaultLifetimeSeconds);
    return { token, lifetimeSeconds: Number.isFinite(lifetime) ? Math.max(0, lifetime) : defaultLifetimeSeconds };
  }
}

/** The scope is built from what is asked for: the one in a challenge can be a placeholder (ghcr.io). */
function tokenRequest(
  repository: string,
  { service, credential }: { service: TokenService; credential: Credential | undefined },
): Pick<HttpRequest, 'method' | 'url' | 'headers' | 'body'> {
  const scope = `repository:${repository}:pull`;
  const url = new URL(service.realm);
  if (credential?.kind === 'refresh-token') {
    const form = new URLSearchParams({ grant_type: 'refresh_token', client_id: 'millpond', scope });
    if (service.service !== undefined) form.set('service', service.service);
    form.set('refresh_token', credential.token);
    const headers = { 'content-type': 'application/x-www-form-urlencoded', accept: 'application/json' };
    return { method: 'POST', url, headers, body: form.toString() };
  }
  if (service.service !== undefined) url.searchParams.set('service', service.service);
  url.searchParams.set('scope', scope);
  const accept = { accept: 'application/json' };
  const headers = credential === undefined ? accept : { ...accept, authorization: basicAuthorization(credential) };
  return { method: 'GET', url, headers };
}

function parseFields(bytes: Buffer): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8'));
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
