import { setTimeout as delay } from 'node:timers/promises';
import { LRUCache } from 'lru-cache';
import { memberOf } from '../oci/json.ts';
import { drain, readBounded } from '../transport/body.ts';
import { SharedWork } from '../waiting/shared-work.ts';
import type { RequestOptions } from './client.ts';
import { basicAuthorization, type Credential } from './credentials/credential.ts';
import { plainBytes } from './encoding.ts';
import { badStatus, denied, pauseOf, rateLimited, unavailable } from './failures.ts';
import type { HttpAnswer, HttpClient, HttpRequest } from './http-client.ts';
import { objectIn } from './json-shape.ts';
import { Refusal, type RequestGate } from './passage.ts';
import { lasting, secondTryIn } from './second-try.ts';

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

/** The parts that ask for tokens. */
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
  readonly obtainedAtMs: number;
  readonly renewAtMs: number;
}

/** The Bearer tokens of one endpoint, one for each realm and scope (distribution's "Token Authentication Specification"). */
export class TokenCache {
  readonly #options: TokenAsker;
  readonly #requests = new SharedWork<string>();
  /** The credential shown last, and how often it has changed. */
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

  /** The credential for the token service now; forgets tokens that were obtained with another. @throws RegistryError */
  async credential(options: RequestOptions): Promise<Credential | undefined> {
    const credential = await this.#options.credential(options);
    this.hold(credential);
    return credential;
  }

  /**
   * Whether a credential is another one than was sent before.
   * @param shown as of {@link shown} then; false where nothing had been sent yet
   */
  isOther(shown: string, credential: Credential | undefined): boolean {
    return shown !== '' && shown !== JSON.stringify(credential ?? null);
  }

  /** Identifies the credential that the token service got last, for {@link isOther}. */
  get shown(): string {
    return this.#shown;
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

  /** Forgets a token that is older than the time that every token lives. @returns whether it was */
  dropAged(token: string): boolean {
    const agedMs = this.#options.now() - leastLifetimeSeconds * 1000;
    const isAged = [...this.#tokens.values()].some((entry) => entry.token === token && entry.obtainedAtMs <= agedMs);
    if (isAged) this.drop(token);
    return isAged;
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
    const send = (wish: typeof request): Promise<HttpAnswer> =>
      http.send({
        ...wish,
        gate: gate(repository),
        lane: 'metadata',
        // The body of a POST has credentials, which go nowhere else.
        redirects: wish.method === 'POST' ? 'same-origin' : 'any-origin',
        signal: limited,
      });
    const ask = async (): Promise<TokenAnswer> => {
      let answer = await send(request);
      if (request.form !== undefined && (answer.status === 404 || answer.status === 405)) {
        await drain(answer.body);
        answer = await send({ ...request, ...post(service.realm, request.form) });
      }
      return await this.#read(answer, { repository, isAnonymous: request.isAnonymous });
    };
    const { token, lifetimeSeconds } = await ask().catch(async (error: unknown) => {
      const afterMs = secondTryIn(error);
      if (afterMs === undefined) throw error;
      // Without a token nothing can be pulled, and the next request may well be answered.
      await delay(afterMs, undefined, { signal: limited }).catch(() => undefined);
      limited.throwIfAborted();
      return await ask().catch((second: unknown) => {
        throw lasting(second instanceof Refusal ? error : second);
      });
    });
    const renewAtMs = now() + lifetimeSeconds * 1000 * usableShare;
    if (generation === this.#generation) this.#tokens.set(key, { token, renewAtMs, obtainedAtMs: now() });
    return token;
  }

  async #read(
    answer: HttpAnswer,
    { repository, isAnonymous }: { readonly repository: string; readonly isAnonymous: boolean },
  ): Promise<TokenAnswer> {
    const { upstream, now } = this.#options;
    const { status, headers, codings, body } = answer;
    if (status < 200 || status > 203) {
      await drain(body);
      const pauseMs = pauseOf({ status, retryAfter: headers['retry-after'], code: answer.code }, now());
      if (pauseMs !== undefined) throw rateLimited(upstream, { status, pauseMs, service: 'token service' });
      if (status === 401 || status === 403) {
        throw denied(upstream, { repository, status, shown: !isAnonymous, place: 'token service' });
      }
      throw badStatus(upstream, `has a token service that answered ${status}`, { status });
    }
    const bytes = await readBounded(body, maxAnswerBytes);
    const plain = bytes && plainBytes(bytes, codings, (candidate) => tokenIn(objectIn(candidate)) !== undefined);
    const fields = (plain && objectIn(plain)) ?? {};
    const token = tokenIn(fields)?.trim();
    // Whatever it is, it becomes a header.
    if (token === undefined || !/^[\x21-\x7e]+$/.test(token)) {
      throw unavailable(upstream, 'has a token service that answered without a token');
    }
    const lifetime = Number(memberOf(fields, 'expires_in') ?? leastLifetimeSeconds);
    return {
      token,
      lifetimeSeconds: Number.isFinite(lifetime) ? Math.max(leastLifetimeSeconds, lifetime) : leastLifetimeSeconds,
    };
  }
}

interface TokenAnswer {
  readonly token: string;
  readonly lifetimeSeconds: number;
}

interface TokenRequest extends Pick<HttpRequest, 'method' | 'url' | 'headers' | 'body'> {
  readonly isAnonymous: boolean;
  /** The body of a POST to a token service without GET: it may speak OAuth 2 alone. */
  readonly form?: URLSearchParams;
}

function tokenRequest(
  scope: string,
  { service, credential }: { service: TokenService; credential: Credential | undefined },
): TokenRequest {
  const url = new URL(service.realm);
  if (service.service !== undefined) url.searchParams.set('service', service.service);
  url.searchParams.set('scope', scope);
  const get = { method: 'GET', url } as const;
  const accept = { accept: 'application/json' };
  if (credential === undefined) return { ...get, headers: accept, isAnonymous: true };
  const form = new URLSearchParams({ client_id: 'millpond', scope });
  if (service.service !== undefined) form.set('service', service.service);
  if (credential.kind === 'refresh-token') {
    form.set('grant_type', 'refresh_token');
    form.set('refresh_token', credential.token);
    return { ...post(service.realm, form), isAnonymous: false };
  }
  form.set('grant_type', 'password');
  form.set('username', credential.username);
  form.set('password', credential.password);
  return {
    ...get,
    headers: { ...accept, authorization: basicAuthorization(credential) },
    isAnonymous: false,
    form,
  };
}

function post(realm: URL, form: URLSearchParams): Pick<HttpRequest, 'method' | 'url' | 'headers' | 'body'> {
  const headers = { 'content-type': 'application/x-www-form-urlencoded', accept: 'application/json' };
  return { method: 'POST', url: new URL(realm), headers, body: form.toString() };
}

function tokenIn(fields: object | undefined): string | undefined {
  const found = ['token', 'access_token'].map((name) => fields && memberOf(fields, name));
  return found.find((value): value is string => typeof value === 'string' && value.trim() !== '');
}
