import { isRecord, parseSecretJson } from './answers.ts';
import { type Credential, storedCredential } from './credential.ts';

/** An entry of Docker's `config.json` for one host: a credential, or the program that has it. */
export type DockerEntry =
  | { readonly credential: Credential }
  /** `docker-credential-<helper>`, to be asked for `serverUrl`. */
  | { readonly helper: string; readonly serverUrl: string };

/** Docker's key of Docker Hub, which is also what a credential store is asked for. */
const hubKey = 'https://index.docker.io/v1/';
const hubHosts: ReadonlySet<string> = new Set(['docker.io', 'index.docker.io', 'registry-1.docker.io']);

/**
 * Looks a host up as Docker does: `credHelpers` decides before `credsStore`, and an entry with a secret in the file
 * before both.
 * @returns `undefined` if the file has nothing for the host
 * @throws Error without anything of the text, if the file cannot be understood
 */
export function dockerEntry(text: string, host: string): DockerEntry | undefined {
  const config = objectAt(parseSecretJson(text));
  const [auths, credHelpers] = [objectAt(config['auths']), objectAt(config['credHelpers'])];
  const isOurs = (key: string): boolean => keyHost(key) === canonicalHost(host);
  const keys = Object.keys(auths).filter(isOurs);
  // Docker's own spelling of a key takes precedence over others for the same host.
  const key = keys.find((candidate) => candidate === hubKey || candidate === host) ?? keys[0];
  const credential = key === undefined ? undefined : readEntry(objectAt(auths[key]));
  if (credential !== undefined) return { credential };
  const own = Object.entries(credHelpers).find(([name]) => isOurs(name));
  const helper = own?.[1] ?? config['credsStore'];
  if (typeof helper !== 'string' || helper === '') return undefined;
  return { helper, serverUrl: own?.[0] ?? key ?? serverUrlOf(host) };
}

/** The key under which a credential store has the credentials of a host. */
export function serverUrlOf(host: string): string {
  return hubHosts.has(host.toLowerCase()) ? hubKey : host;
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
  return storedCredential(username, password);
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

function objectAt(value: unknown): Readonly<Record<string, unknown>> {
  return isRecord(value) ? value : {};
}
