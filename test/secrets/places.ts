import { jsonSchema } from '../../src/config/schema.ts';
import type { SchemaNode } from '../../src/config/schema-node.ts';

/** Keys of the configuration that hold a secret, or name a file, a variable or a program that does. */
export const secretKeys = [
  'tls.keyFile',
  'listeners.metrics.tls.keyFile',
  'listeners.peers.tls.keyFile',
  'listeners.administration.tls.keyFile',
  ...['upstreams.*.auth', 'upstreams.*.additionalAuth.[]'].flatMap((at) =>
    ['password', 'passwordFile', 'passwordEnv', 'dockerConfig', 'helper', 'credentialsFile', 'kubeletProvider'].map(
      (key) => `${at}.${key}`,
    ),
  ),
  'upstreams.*.tls.keyFile',
  'redis.url',
  'redis.passwordFile',
  'redis.sentinelPasswordFile',
  'cluster.secretFile',
  'auth.htpasswdFile',
  'auth.issuers.[].tokenFile',
  'auth.keysFile',
  'events.webhooks.[].secretFile',
] as const;

/** Texts and names of files without secrets. */
export const openKeys = [
  'defaultUpstream',
  'upstreams.*.aliases.[]',
  'upstreams.*.hosts.[]',
  'upstreams.*.tokenRealms.[]',
  ...['upstreams.*.auth', 'upstreams.*.additionalAuth.[]'].flatMap((at) =>
    ['username', 'region', 'clientId', 'tenantId', 'kubeletArgs.[]'].map((key) => `${at}.${key}`),
  ),
  'upstreams.*.signatures.[].identities.[].issuer',
  'upstreams.*.signatures.[].identities.[].subject',
  'prefetch.[].schedule',
  ...['name', 'tags.[]', 'platforms.[]'].map((key) => `prefetch.[].images.[].${key}`),
  'prefetch.[].platforms.[]',
  'redis.sentinelUsername',
  'redis.keyPrefix',
  'hosted.mediaTypes.[]',
  ...['issuer', 'audience', 'prefix', 'userClaim', 'groupsClaim'].map((key) => `auth.issuers.[].${key}`),
  ...['name', 'users.[]', 'groups.[]', 'addresses.[]', 'repositories.[]'].map((key) => `auth.policies.[].${key}`),
  ...['tls', 'listeners.metrics.tls', 'listeners.peers.tls', 'listeners.administration.tls'].flatMap((at) => [
    `${at}.certFile`,
    `${at}.clientCaFile`,
  ]),
  'cache.dir',
  'upstreams.*.tls.caFile',
  'upstreams.*.tls.certFile',
  'upstreams.*.signatures.[].keys.[]',
  'upstreams.*.signatures.[].trustRoot',
  'prefetch.[].file',
  'redis.caFile',
  'auth.issuers.[].jwksFile',
  'auth.issuers.[].caFile',
  'log.auditFile',
];

/** Every key of the schema that takes any text, a path, or an address with a password in it: each may be a secret. */
export function guardedKeys(): readonly string[] {
  return leaves(jsonSchema(), [])
    .filter(({ node }) => mayBeSecret(node))
    .map(({ key }) => key);
}

/** Every key that takes the URL of a server by HTTP. */
export function urlKeys(): readonly string[] {
  return leaves(jsonSchema(), [])
    .filter(({ node }) => node.pattern === '^https?://')
    .map(({ key }) => key);
}

function mayBeSecret(node: Leaf): boolean {
  if (['path', 'secret', 'redis'].includes(node['x-form'] ?? '')) return true;
  const isText = [node.type].flat().includes('string') && node['x-unit'] === undefined && node['x-form'] === undefined;
  // A name of a program follows a pattern, too.
  return isText && node.enum === undefined && (node.pattern === undefined || node.pattern.startsWith('^[A-Za-z0-9]'));
}

type Leaf = SchemaNode & { readonly pattern?: string; readonly enum?: readonly unknown[] };

function leaves(node: SchemaNode, path: readonly string[]): { readonly key: string; readonly node: Leaf }[] {
  const below: [string, SchemaNode][] = Object.entries(node.properties ?? {});
  if (typeof node.additionalProperties === 'object') below.push(['*', node.additionalProperties]);
  if (node.items) below.push(['[]', node.items]);
  if (below.length === 0) return [{ key: path.join('.'), node }];
  return below.flatMap(([key, one]) => leaves(one, [...path, key]));
}
