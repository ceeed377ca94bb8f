import type { Environment } from '../../transport/proxies.ts';

/** The credential that is sent to an upstream or its token service. */
export type Credential =
  | { readonly kind: 'basic'; readonly username: string; readonly password: string }
  /** An identity token of `docker login`, exchanged for tokens by OAuth 2. */
  | { readonly kind: 'refresh-token'; readonly token: string };

export interface CredentialContext {
  /** Name of the upstream, for error messages. */
  readonly upstream: string;
  /** Host of the endpoint, with its port if it has one: the key in Docker's `config.json`. */
  readonly host: string;
  readonly environment: Environment;
}

/** How credential stores mark an identity token (docker-credential-helpers, "Development"). */
const identityTokenUser = '<token>';

/** The credential that a user name and a secret of a credential store stand for. */
export function storedCredential(username: string, secret: string): Credential {
  return username === identityTokenUser
    ? { kind: 'refresh-token', token: secret }
    : { kind: 'basic', username, password: secret };
}

/** `Authorization` of the Basic scheme (RFC 7617). */
export function basicAuthorization({ username, password }: { username: string; password: string }): string {
  return `Basic ${Buffer.from(`${username}:${password}`, 'utf8').toString('base64')}`;
}
