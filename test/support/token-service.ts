import { randomUUID } from 'node:crypto';
import { type Answer, textAnswer } from './answers.ts';
import type { RecordedRequest } from './recorded-request.ts';

export interface Credentials {
  readonly username: string;
  readonly password: string;
}

export interface TokenServiceOptions {
  /** The member that holds the token (default `token`). */
  readonly field?: 'token' | 'access_token' | 'both';
  /** The member `expires_in`; left out, tokens live for 60 s as the token specification says. */
  readonly expiresInSeconds?: number;
  /** Whether `issued_at` is there (default false). */
  readonly issuedAt?: boolean;
  /** Required with each request for a token; without it, tokens are given to any client. */
  readonly credentials?: Credentials;
  /** What the registry's challenge says as `realm`, instead of the service's own address. */
  readonly realm?: string;
  /** Address that the service listens on (default that of the registry). */
  readonly host?: string;
  /** `service` in the challenge (default `registry.test`). */
  readonly service?: string;
  /** What the challenge says as `scope`: what the request needs (default), a fixed text, or nothing. */
  readonly challengeScope?: string | undefined;
  /** The service's clock in milliseconds since 1970. */
  readonly now?: () => number;
}

/** Tokens given out, and who may do what with them (distribution's "Token Authentication Specification"). */
export class TokenIssuer {
  readonly options: TokenServiceOptions;
  readonly #tokens = new Map<string, { readonly scopes: readonly string[]; readonly expiresAtMs: number }>();
  readonly #issued = new Map<string, number>();

  constructor(options: TokenServiceOptions) {
    this.options = options;
  }

  /** How many tokens were given out for exactly this scope, e.g. `repository:library/tiny:pull`; or for all scopes. */
  issued(scope?: string): number {
    if (scope !== undefined) return this.#issued.get(scope) ?? 0;
    return this.#issued.values().reduce((sum, count) => sum + count, 0);
  }

  /** Every token so far is refused from now on. */
  revokeAll(): void {
    this.#tokens.clear();
  }

  /** Whether this `Authorization` may pull from the repository, or merely is a valid one where none is named. */
  allows(authorization: string | undefined, repository: string | undefined): boolean {
    const [, token = ''] = /^Bearer (.+)$/i.exec(authorization ?? '') ?? [];
    const entry = this.#tokens.get(token);
    if (entry === undefined || entry.expiresAtMs <= this.#now()) return false;
    return repository === undefined || entry.scopes.some((scope) => grantsPull(scope, repository));
  }

  /** The `WWW-Authenticate` for a request to the repository. */
  challenge(ownRealm: string, repository: string | undefined): string {
    const needed = repository === undefined ? undefined : `repository:${repository}:pull`;
    const scope = 'challengeScope' in this.options ? this.options.challengeScope : needed;
    const parts = [`realm="${this.options.realm ?? ownRealm}"`, `service="${this.options.service ?? 'registry.test'}"`];
    if (scope !== undefined) parts.push(`scope="${scope}"`);
    return `Bearer ${parts.join(',')}`;
  }

  /** Answers a request for a token: GET with Basic, or POST as OAuth 2 with a password or a refresh token. */
  answer(request: RecordedRequest): Answer {
    const form = new URLSearchParams(request.method === 'POST' ? request.body : '');
    if (!this.#knows(request, form)) {
      return textAnswer(401, JSON.stringify({ errors: [{ code: 'UNAUTHORIZED', message: 'wrong credentials' }] }), {
        'Content-Type': 'application/json',
      });
    }
    const parameters = request.method === 'POST' ? form : request.query;
    const scopes = parameters.getAll('scope').flatMap((scope) => scope.split(' '));
    const token = randomUUID();
    const lifetimeMs = (this.options.expiresInSeconds ?? 60) * 1000;
    this.#tokens.set(token, { scopes, expiresAtMs: this.#now() + lifetimeMs });
    for (const scope of scopes) this.#issued.set(scope, (this.#issued.get(scope) ?? 0) + 1);
    const field = this.options.field ?? 'token';
    const body = {
      token: field === 'access_token' ? undefined : token,
      access_token: field === 'token' ? undefined : token,
      expires_in: this.options.expiresInSeconds,
      issued_at: this.options.issuedAt ? new Date(this.#now()).toISOString() : undefined,
    };
    return textAnswer(200, JSON.stringify(body), { 'Content-Type': 'application/json' });
  }

  #knows(request: RecordedRequest, form: URLSearchParams): boolean {
    const { credentials } = this.options;
    if (credentials === undefined) return true;
    if (form.get('grant_type') === 'refresh_token') return form.get('refresh_token') === credentials.password;
    if (form.get('grant_type') === 'password') {
      return form.get('username') === credentials.username && form.get('password') === credentials.password;
    }
    return request.headers.authorization === basicAuthorization(credentials);
  }

  #now(): number {
    return this.options.now?.() ?? Date.now();
  }
}

export function basicAuthorization({ username, password }: Credentials): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}

function grantsPull(scope: string, repository: string): boolean {
  const [kind, ...rest] = scope.split(':');
  const actions = rest.pop() ?? '';
  return kind === 'repository' && rest.join(':') === repository && actions.split(',').includes('pull');
}
