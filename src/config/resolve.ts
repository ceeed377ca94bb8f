import { resolve } from 'node:path';
import type { CompleteConfig, Config } from './config.ts';
import { inForce } from './in-force.ts';
import type { Origins } from './origins.ts';
import { emptyUpstream, type ParsedConfig } from './schema.ts';
import type { SchemaNode, SchemaProblem } from './schema-node.ts';
import { defaultUpstreamNames, resolveUpstreams } from './upstream-table.ts';

/** Where relative paths count from. */
export interface ResolveOptions {
  /** For paths written in the file. */
  readonly folder: string;
  /** For all others. */
  readonly workingDirectory: string;
  readonly origins: Origins;
  /** The form of the schema. */
  readonly root: SchemaNode;
}

/** Turns checked settings into what the program uses, looking at what must fit together. */
export function resolveConfig(
  parsed: ParsedConfig,
  options: ResolveOptions,
): { config: Config; problems: readonly SchemaProblem[] } {
  const { folder, workingDirectory, origins, root } = options;
  const problems: SchemaProblem[] = [];
  const table = new Map(
    parsed.upstreams === undefined
      ? defaultUpstreamNames.map((name) => [name, emptyUpstream()])
      : Object.entries(parsed.upstreams),
  );
  const upstreams = resolveUpstreams(table, parsed, { folder, root, problems });
  const cacheFolder = origins.of(['cache', 'dir']).kind === 'file' ? folder : workingDirectory;
  const complete: Omit<CompleteConfig, 'upstreams'> = {
    ...parsed,
    cache: { ...parsed.cache, dir: resolve(cacheFolder, parsed.cache.dir) },
    defaultUpstream: resolveDefaultUpstream(parsed.defaultUpstream, upstreams, problems),
  };
  checkPrefetch(parsed, problems);
  checkCluster(parsed, problems);
  checkAuth(parsed, problems);
  checkHosted(parsed, problems);
  return { config: { ...inForce(complete, { node: root, folder }), upstreams }, problems };
}

function checkPrefetch({ prefetch }: ParsedConfig, problems: SchemaProblem[]): void {
  for (const [index, { schedule, every, images = [], file }] of prefetch.entries()) {
    const refuse = (message: string): void => {
      problems.push({ kind: 'refused', path: ['prefetch', index], message });
    };
    if ((schedule === undefined) === (every === undefined)) refuse('accepted: exactly one of schedule, every');
    else if (images.length === 0 && file === undefined) refuse('names no image; accepted: images, file, or both');
  }
}

function checkCluster({ redis, cluster, listeners, ...config }: ParsedConfig, problems: SchemaProblem[]): void {
  if (!redis) return;
  const refuse = (key: string, message: string): void => {
    problems.push({ kind: 'refused', path: ['cluster', key], message });
  };
  if (cluster.secretFile === undefined) {
    refuse('secretFile', 'is missing: with redis the replicas need a secret of their own, in the same file for all');
  }
  const listen = listeners.peers?.listen ?? config.listen;
  const isEveryAddress = listen.host === undefined || listen.host === '0.0.0.0' || listen.host === '::';
  if (cluster.advertise === undefined && isEveryAddress) {
    refuse('advertise', 'is missing: with redis and a listener on every address, the other replicas need an address');
  }
}

function checkAuth({ auth, tls, listeners, upstreams = {} }: ParsedConfig, problems: SchemaProblem[]): void {
  if (listeners.administration && !auth) {
    const message = 'requires auth: anyone who can reach the port could administer the mirror';
    problems.push({ kind: 'refused', path: ['listeners', 'administration'], message });
  }
  for (const [name, { access }] of Object.entries(upstreams)) {
    if (access !== 'caller' || auth) continue;
    const message = 'requires auth: without it callers are not asked for credentials';
    problems.push({ kind: 'refused', path: ['upstreams', name, 'access'], message });
  }
  if (auth?.certificates && tls?.clientCaFile === undefined) {
    const message = 'requires tls.clientCaFile: without it no client is asked for a certificate';
    problems.push({ kind: 'refused', path: ['auth', 'certificates'], message });
  }
  const seen = new Set<string>();
  for (const [index, { issuer, jwks, jwksFile, tokenReview, prefix }] of (auth?.issuers ?? []).entries()) {
    const refuse = (message: string): void => {
      problems.push({ kind: 'refused', path: ['auth', 'issuers', index], message });
    };
    if (seen.has(issuer)) refuse(`names ${issuer} for the second time`);
    seen.add(issuer);
    const sources = [jwks, jwksFile, tokenReview].filter((source) => source !== undefined).length;
    if (sources > 1) refuse('accepted: at most one of jwks, jwksFile, tokenReview');
    const isUrl = /^https?:/.test(issuer) && URL.canParse(issuer);
    if (sources === 0 && !isUrl) refuse('is no URL that could be asked for keys: write jwks, jwksFile or tokenReview');
    if (prefix === undefined && !isUrl) refuse('is no URL: write prefix');
  }
  for (const [index, { anonymous }] of (auth?.policies ?? []).entries()) {
    if (!anonymous || auth?.anonymous) continue;
    const message = 'matches no one as long as auth.anonymous is false';
    problems.push({ kind: 'refused', path: ['auth', 'policies', index, 'anonymous'], message });
  }
}

function checkHosted({ redis, hosted }: ParsedConfig, problems: SchemaProblem[]): void {
  if (!hosted || (hosted.owner === undefined) === (redis === undefined)) return;
  const message = redis
    ? 'is missing: with redis, the hosted repositories are kept by one of the replicas, which the others have to know'
    : 'has no meaning without redis: one process alone keeps its hosted repositories itself';
  problems.push({ kind: 'refused', path: ['hosted', 'owner'], message });
}

function resolveDefaultUpstream(
  written: string | null | undefined,
  upstreams: Config['upstreams'],
  problems: SchemaProblem[],
): string | undefined {
  if (written === null) return undefined;
  const wanted = written ?? 'docker.io';
  const found = upstreams.find((upstream) => upstream.name === wanted || upstream.aliases.includes(wanted));
  if (found === undefined && written !== undefined) {
    const names = upstreams.map((upstream) => upstream.name).join(', ');
    problems.push({
      kind: 'refused',
      path: ['defaultUpstream'],
      message: `"${written}" is not in the table of upstreams; accepted: null, or one of ${names}`,
    });
  }
  return found?.name;
}
