import { jsonSchema } from '../../src/config/schema.ts';
import type { SchemaNode } from '../../src/config/schema-node.ts';

/** Keys of the configuration that hold a secret, or name a file or a program that does. */
export const secretKeys = [
  'tls.keyFile',
  'listeners.metrics.tls.keyFile',
  'listeners.peers.tls.keyFile',
  'listeners.administration.tls.keyFile',
  ...['upstreams.*.auth', 'upstreams.*.additionalAuth.[]'].flatMap((at) =>
    ['password', 'passwordFile', 'dockerConfig', 'credentialsFile', 'kubeletProvider'].map((key) => `${at}.${key}`),
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

/** Keys that name files without secrets. */
export const openKeys = [
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

/** Every key of the schema that is a secret, or a path, or an address with a password in it. */
export function guardedKeys(): readonly string[] {
  return [...walk(jsonSchema(), [])];
}

function* walk(node: SchemaNode, path: readonly string[]): Generator<string> {
  if (['path', 'secret', 'redis'].includes(node['x-form'] ?? '')) yield path.join('.');
  for (const [key, one] of Object.entries(node.properties ?? {})) yield* walk(one, [...path, key]);
  if (typeof node.additionalProperties === 'object') yield* walk(node.additionalProperties, [...path, '*']);
  if (node.items) yield* walk(node.items, [...path, '[]']);
}
