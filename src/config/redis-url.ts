import { Secret } from './secret.ts';

/** Where Redis is, as its URL says. */
export interface RedisLocation {
  readonly kind: 'single' | 'sentinel' | 'cluster';
  readonly tls: boolean;
  /** At least one; of `single` exactly one. */
  readonly hosts: readonly { readonly host: string; readonly port: number }[];
  readonly username: string | undefined;
  readonly password: Secret | undefined;
  /** Of `single` and `sentinel`. */
  readonly db: number;
  /** The name that the sentinels give the server; '' of the others. */
  readonly name: string;
  /** The URL with its password hidden. */
  readonly shown: string;
}

const form = /^(redis|rediss)(?:\+(sentinel|cluster))?:\/\/(?:([^@/]*)@)?([^@/?#]+)((?:\/[^/?#]*){0,2})$/i;

/**
 * Reads `redis://[user:password@]host[:port][/db]`, `rediss://` for TLS, `redis+cluster://host:port,host:port`, and
 * `redis+sentinel://host:port,host:port/name[/db]`.
 * @returns `undefined` for anything else
 */
export function parseRedisUrl(text: string): RedisLocation | undefined {
  const [, scheme = '', mode, credentials, places = '', path = ''] = form.exec(text) ?? [];
  if (scheme === '') return undefined;
  const kind = (mode?.toLowerCase() ?? 'single') as RedisLocation['kind'];
  const hosts = places.split(',').map((place) => parsePlace(place, kind === 'sentinel' ? 26_379 : 6_379));
  if (hosts.includes(undefined) || (kind === 'single' && hosts.length > 1)) return undefined;
  const parts = path
    .split('/')
    .slice(1)
    .filter((part) => part !== '');
  const name = kind === 'sentinel' ? parts.shift() : '';
  const [db = '0', ...rest] = parts;
  if (name === undefined || rest.length > 0 || !/^\d{1,5}$/.test(db) || (kind === 'cluster' && db !== '0'))
    return undefined;
  const login = parseLogin(credentials);
  if (login === undefined) return undefined;
  const user = login.username ?? '';
  const shownLogin = credentials === undefined ? '' : `${user}${login.password ? ':[hidden]' : ''}@`;
  return {
    kind,
    tls: scheme.toLowerCase() === 'rediss',
    hosts: hosts.filter((place) => place !== undefined),
    ...login,
    db: Number(db),
    name,
    shown: `${text.slice(0, text.indexOf('://'))}://${shownLogin}${places}${path}`,
  };
}

function parsePlace(text: string, defaultPort: number): { host: string; port: number } | undefined {
  const match = /^(?:\[([0-9a-f:.]+)\]|([a-z0-9](?:[a-z0-9._-]*)))(?::(\d{1,5}))?$/i.exec(text);
  const port = Number(match?.[3] ?? defaultPort);
  const host = match?.[1] ?? match?.[2];
  return host === undefined || port < 1 || port > 65_535 ? undefined : { host, port };
}

function parseLogin(
  text: string | undefined,
): { username: string | undefined; password: Secret | undefined } | undefined {
  if (text === undefined) return { username: undefined, password: undefined };
  const [username = '', ...rest] = text.split(':');
  try {
    const password = decodeURIComponent(rest.join(':'));
    const user = decodeURIComponent(username);
    return { username: user === '' ? undefined : user, password: password === '' ? undefined : new Secret(password) };
  } catch {
    return undefined;
  }
}
