import { resolve } from 'node:path';
import type { FreshnessConfig, UpstreamAuth, UpstreamConfig } from './config.ts';
import type { ParsedConfig, ParsedUpstream } from './schema.ts';
import type { ConfigPath, SchemaProblem } from './schema-node.ts';
import { hostName, ValueError } from './value-kinds.ts';

/** The upstreams of a configuration that names none, each at its public address and anonymous. */
export const defaultUpstreamNames: readonly string[] = [
  'docker.io',
  'ghcr.io',
  'quay.io',
  'registry.k8s.io',
  'gcr.io',
  'mcr.microsoft.com',
  'public.ecr.aws',
];

/** What is true of Docker Hub however it is configured: all three are one registry, and its tokens come from elsewhere. */
const dockerHub = {
  name: 'docker.io',
  urls: ['https://registry-1.docker.io'],
  aliases: ['index.docker.io', 'registry-1.docker.io'],
  tokenRealms: ['auth.docker.io'],
} as const;

/** Where a relative path of the file counts from, and where problems go. */
export interface ResolveContext {
  readonly folder: string;
  readonly problems: SchemaProblem[];
}

/** Makes the closed table; whatever is contradictory goes to `problems`. */
export function resolveUpstreams(
  table: ReadonlyMap<string, ParsedUpstream>,
  parsed: ParsedConfig,
  context: ResolveContext,
): readonly UpstreamConfig[] {
  if (table.size === 0) {
    refuse(context, ['upstreams'], 'holds no upstream; leave the key out for the default table');
  }
  const upstreams = [...table].map(([written, upstream]) => resolveUpstream(written, upstream, { ...context, parsed }));
  refuseSharedNames(upstreams, context);
  return upstreams;
}

function resolveUpstream(
  written: string,
  upstream: ParsedUpstream,
  context: ResolveContext & { readonly parsed: ParsedConfig },
): UpstreamConfig {
  const { parsed, folder } = context;
  const path: ConfigPath = ['upstreams', written];
  const name = resolveName(written, path, context);
  const isHub = name === dockerHub.name;
  const { tls } = upstream;
  if ((tls.certFile === undefined) !== (tls.keyFile === undefined)) {
    refuse(context, [...path, 'tls'], 'certFile and keyFile go together');
  }
  const freshness: FreshnessConfig = {
    tagTtlMs: upstream.tagTtl ?? parsed.cache.tagTtl,
    staleWhileRevalidateMs: upstream.staleWhileRevalidate ?? parsed.cache.staleWhileRevalidate,
    staleIfErrorMs: upstream.staleIfError ?? parsed.cache.staleIfError,
    negativeTtlMs: upstream.negativeTtl ?? parsed.cache.negativeTtl,
  };
  return {
    name,
    urls: upstream.urls ?? (isHub ? dockerHub.urls : [`https://${name}`]),
    aliases: unique([...(isHub ? dockerHub.aliases : []), ...upstream.aliases]).filter((alias) => alias !== name),
    hosts: unique(upstream.hosts),
    auth: upstream.auth && resolveAuth(upstream.auth, [...path, 'auth'], context),
    tokenRealms: unique([...(isHub ? dockerHub.tokenRealms : []), ...upstream.tokenRealms]),
    tls: {
      caFile: absolute(tls.caFile, folder),
      certFile: absolute(tls.certFile, folder),
      keyFile: absolute(tls.keyFile, folder),
      insecureSkipVerify: tls.insecureSkipVerify,
    },
    freshness,
    tags: upstream.tags.map(({ match, repositories = [], ...times }) => ({
      match,
      repositories,
      tagTtlMs: times.tagTtl ?? freshness.tagTtlMs,
      staleWhileRevalidateMs: times.staleWhileRevalidate ?? freshness.staleWhileRevalidateMs,
      staleIfErrorMs: times.staleIfError ?? freshness.staleIfErrorMs,
    })),
    maxConnections: upstream.maxConnections,
    connectionsPerBlob: upstream.connectionsPerBlob,
    rateLimitFloor: upstream.rateLimitFloor,
    repositories: upstream.repositories,
    timeouts: {
      connectMs: upstream.timeouts.connect ?? parsed.timeouts.connect,
      headersMs: upstream.timeouts.headers ?? parsed.timeouts.headers,
      idleMs: upstream.timeouts.idle ?? parsed.timeouts.idle,
      answerMs: upstream.timeouts.answer ?? parsed.timeouts.answer,
    },
  };
}

function resolveName(written: string, path: ConfigPath, context: ResolveContext): string {
  try {
    return hostName.parse(written);
  } catch (error) {
    if (!(error instanceof ValueError)) throw error;
    refuse(context, path, `the name of an upstream: ${error.message}`);
    return written;
  }
}

type ParsedAuth = NonNullable<ParsedUpstream['auth']>;

function resolveAuth(auth: ParsedAuth, path: ConfigPath, context: ResolveContext): UpstreamAuth | undefined {
  const { username, password, passwordFile, passwordEnv, dockerConfig } = auth;
  const sources = [password, passwordFile, passwordEnv, dockerConfig].filter((source) => source !== undefined);
  if (sources.length !== 1) {
    refuse(context, path, 'accepted: exactly one of password, passwordFile, passwordEnv, dockerConfig');
    return undefined;
  }
  if (dockerConfig !== undefined) {
    if (username !== undefined)
      refuse(context, [...path, 'username'], 'does not go with dockerConfig, which has its own');
    return { kind: 'dockerConfig', path: resolve(context.folder, dockerConfig) };
  }
  if (username === undefined) {
    refuse(context, [...path, 'username'], 'is missing');
    return undefined;
  }
  if (password !== undefined) return { kind: 'password', username, password };
  if (passwordFile !== undefined)
    return { kind: 'passwordFile', username, path: resolve(context.folder, passwordFile) };
  return passwordEnv === undefined ? undefined : { kind: 'passwordEnv', username, variable: passwordEnv };
}

/** A name that two upstreams claim would make the choice between them depend on their order. */
function refuseSharedNames(upstreams: readonly UpstreamConfig[], context: ResolveContext): void {
  const owners = new Map<string, UpstreamConfig>();
  for (const upstream of upstreams) {
    for (const name of unique([upstream.name, ...upstream.aliases, ...upstream.hosts])) {
      const owner = owners.get(name);
      if (owner !== undefined) {
        const message =
          owner.name === upstream.name
            ? 'this upstream is in the table twice; upper and lower case are the same name'
            : `"${name}" already belongs to the upstream ${owner.name}; names, aliases and hosts must be unique`;
        refuse(context, ['upstreams', upstream.name], message);
      }
      owners.set(name, owner ?? upstream);
    }
  }
}

function refuse(context: ResolveContext, path: ConfigPath, message: string): void {
  context.problems.push({ kind: 'refused', path, message });
}

function unique(names: readonly string[]): readonly string[] {
  return [...new Set(names)];
}

function absolute(path: string | undefined, folder: string): string | undefined {
  return path === undefined ? undefined : resolve(folder, path);
}
