import { readFile } from 'node:fs/promises';
import { RegistryError } from '../oci/error.ts';
import { unavailable } from './failures.ts';
import type { CredentialOptions } from './options.ts';

/** What is presented to an upstream or its token service. */
export type Credential =
  | { readonly kind: 'basic'; readonly username: string; readonly password: string }
  /** An identity token of `docker login`, exchanged for tokens by OAuth 2. */
  | { readonly kind: 'refresh-token'; readonly token: string };

export interface CredentialContext {
  /** Name of the upstream, for error messages. */
  readonly upstream: string;
  /** Host of the endpoint, with its port if it has one: the key in Docker's `config.json`. */
  readonly host: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/**
 * Reads the credential of an upstream from its configured place, at each use.
 * @returns `undefined` if there is none: anonymous
 * @throws RegistryError UNAVAILABLE if the source cannot be read
 */
export async function readCredential(
  options: CredentialOptions | undefined,
  context: CredentialContext,
): Promise<Credential | undefined> {
  const { upstream } = context;
  try {
    switch (options?.kind) {
      case undefined:
        return undefined;
      case 'inline':
        return { kind: 'basic', username: options.username, password: options.password };
      case 'password-file': {
        const text = await readFile(options.passwordFile, 'utf8');
        return { kind: 'basic', username: options.username, password: text.replace(/\r?\n$/, '') };
      }
      case 'environment': {
        const password = context.environment[options.passwordVariable];
        if (password !== undefined) return { kind: 'basic', username: options.username, password };
        throw unavailable(upstream, `has its password in ${options.passwordVariable}, which is not set`, {
          reason: 'no-credentials',
        });
      }
      case 'docker-config':
        return credentialOf(parseConfig(await readFile(options.path, 'utf8')), context);
      default:
        return options satisfies never;
    }
  } catch (error) {
    if (error instanceof RegistryError) throw error;
    throw unavailable(upstream, `has credentials that cannot be read; look at upstreams.${upstream}.auth`, {
      reason: 'no-credentials',
      cause: error,
    });
  }
}

/** `Authorization` of the Basic scheme (RFC 7617). */
export function basicAuthorization({ username, password }: { username: string; password: string }): string {
  return `Basic ${Buffer.from(`${username}:${password}`, 'utf8').toString('base64')}`;
}

interface DockerConfig {
  readonly auths: Readonly<Record<string, unknown>>;
  readonly credHelpers: Readonly<Record<string, unknown>>;
  readonly credsStore: unknown;
}

const hubKey = 'https://index.docker.io/v1/';
const hubHosts: ReadonlySet<string> = new Set(['docker.io', 'index.docker.io', 'registry-1.docker.io']);

function parseConfig(text: string): DockerConfig {
  const config = readObject(parseJson(text));
  return {
    auths: readObject(config.auths),
    credHelpers: readObject(config.credHelpers),
    credsStore: config.credsStore,
  };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // The parser's own message quotes the text, possibly with a password.
    throw new Error('the file is not JSON');
  }
}

function credentialOf(config: DockerConfig, { upstream, host }: CredentialContext): Credential | undefined {
  const isOurs = (key: string): boolean => keyHost(key) === canonicalHost(host);
  const helper = Object.entries(config.credHelpers).find(([key]) => isOurs(key))?.[1] ?? config.credsStore;
  const keys = Object.keys(config.auths).filter(isOurs);
  // Docker's own spelling of a key takes precedence over others for the same host.
  const key = keys.find((candidate) => candidate === hubKey || candidate === host) ?? keys[0];
  const entry = key === undefined ? undefined : readEntry(readObject(config.auths[key]));
  if (entry !== undefined || typeof helper !== 'string' || helper === '') return entry;
  throw unavailable(
    upstream,
    'has its credentials in a credential helper, which is not supported yet; give them under auth in another way',
    { reason: 'no-credentials' },
  );
}

function readEntry(entry: Readonly<Record<string, unknown>>): Credential | undefined {
  const { identitytoken, auth } = entry;
  if (typeof identitytoken === 'string' && identitytoken !== '') return { kind: 'refresh-token', token: identitytoken };
  let { username, password } = entry;
  if (typeof auth === 'string' && auth !== '') {
    // Docker ignores zero bytes at the end.
    const bytes = Buffer.from(auth, 'base64');
    const decoded = bytes.toString('utf8', 0, bytes.findLastIndex((byte) => byte !== 0) + 1);
    const colon = decoded.indexOf(':');
    if (colon === -1) throw new Error('an entry of auths cannot be decoded');
    [username, password] = [decoded.slice(0, colon), decoded.slice(colon + 1)];
  }
  if (typeof username !== 'string' || typeof password !== 'string' || username === '') return undefined;
  // How Docker's credential stores mark an identity token.
  return username === '<token>' ? { kind: 'refresh-token', token: password } : { kind: 'basic', username, password };
}

/** The host of a key; `undefined` for a key that is limited to a path below a host. */
function keyHost(key: string): string | undefined {
  const match = /^(?:https?:\/\/)?([^/]+)(?:\/(?:v[12]\/?)?)?$/i.exec(key);
  return match?.[1] === undefined ? undefined : canonicalHost(match[1]);
}

function canonicalHost(host: string): string {
  const lower = host.toLowerCase();
  return hubHosts.has(lower) ? 'index.docker.io' : lower;
}

function readObject(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}
