import type { CompleteUpstream, UpstreamConfig } from './config.ts';
import { inForce } from './in-force.ts';
import { leadsToItself } from './own-url.ts';
import type { ParsedConfig } from './schema.ts';
import { type ConfigPath, type SchemaNode, type SchemaProblem, schemaNode } from './schema-node.ts';
import { checkSignatures } from './signatures.ts';
import { freshness, inherit, tagTimes, upstreamTimeouts } from './times-schema.ts';
import { checkAuths } from './upstream-auth.ts';
import type { ParsedUpstream } from './upstream-schema.ts';
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

/** The facts about Docker Hub, however it is configured: all three are one registry, and its tokens come from elsewhere. */
const dockerHub = {
  name: 'docker.io',
  urls: ['https://registry-1.docker.io'],
  aliases: ['index.docker.io', 'registry-1.docker.io'],
  tokenRealms: ['auth.docker.io'],
} as const;

/** Where a relative path of the file counts from, what the schema looks like, and where problems go. */
export interface ResolveContext {
  readonly folder: string;
  readonly root: SchemaNode;
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
  const node = schemaNode(context.root, ['upstreams', '*'])!;
  const upstreams = [...table].map(([written, upstream]) => {
    const complete = completeUpstream(written, upstream, { ...context, parsed });
    return inForce(complete, { node, folder: context.folder });
  });
  refuseSharedNames(upstreams, context);
  refuseLoops(table, upstreams, { ...context, parsed });
  return upstreams;
}

function completeUpstream(
  written: string,
  upstream: ParsedUpstream,
  context: ResolveContext & { readonly parsed: ParsedConfig },
): CompleteUpstream {
  const { parsed } = context;
  const path: ConfigPath = ['upstreams', written];
  const name = resolveName(written, path, context);
  const isHub = name === dockerHub.name;
  const { tls } = upstream;
  if ((tls.certFile === undefined) !== (tls.keyFile === undefined)) {
    refuse(context, [...path, 'tls'], 'certFile and keyFile go together');
  }
  const refused = (at: ConfigPath, message: string): void => refuse(context, at, message);
  checkAuths(upstream, path, refused);
  checkSignatures(upstream.signatures, path, refused);
  const times = inherit(freshness, { own: upstream, wide: parsed.cache });
  return {
    ...upstream,
    ...times,
    name,
    urls: upstream.urls ?? (isHub ? dockerHub.urls : [`https://${name}`]),
    aliases: unique([...(isHub ? dockerHub.aliases : []), ...upstream.aliases]).filter((alias) => alias !== name),
    hosts: unique(upstream.hosts),
    tokenRealms: unique([...(isHub ? dockerHub.tokenRealms : []), ...upstream.tokenRealms]),
    tags: upstream.tags.map((rule) => ({ ...rule, ...inherit(tagTimes, { own: rule, wide: times }) })),
    timeouts: inherit(upstreamTimeouts, { own: upstream.timeouts, wide: parsed.timeouts }),
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

/** An upstream that is this mirror itself would refuse every request as a loop. */
function refuseLoops(
  table: ReadonlyMap<string, ParsedUpstream>,
  upstreams: readonly UpstreamConfig[],
  context: ResolveContext & { readonly parsed: ParsedConfig },
): void {
  const { listen, cluster } = context.parsed;
  const own = { listen, advertise: cluster.advertise };
  const written = [...table.keys()];
  for (const [index, { urls }] of upstreams.entries()) {
    for (const [at, url] of urls.entries()) {
      if (!leadsToItself(url, own)) continue;
      const message =
        'leads back to this mirror, which would ask itself; accepted: the URL of a registry or of another mirror';
      refuse(context, ['upstreams', written[index]!, 'urls', at], message);
    }
  }
}

function refuse(context: ResolveContext, path: ConfigPath, message: string): void {
  context.problems.push({ kind: 'refused', path, message });
}

function unique(names: readonly string[]): string[] {
  return [...new Set(names)];
}
