import { z } from 'zod';
import { prefetchSchema } from './prefetch-schema.ts';
import { clusterSchema, redisSchema } from './replicas-schema.ts';
import type { SchemaNode, SchemaProblem } from './schema-node.ts';
import {
  duration,
  flag,
  hostName,
  integer,
  listenAddress,
  oneOf,
  optionalHostName,
  pinPattern,
  registryUrl,
  repositoryPattern,
  secret,
  size,
  tagPattern,
  text,
} from './value-kinds.ts';
import { parseWith, schemaOf, value } from './value-schema.ts';

const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
const path = text('the path of a file');

const freshnessOverrides = {
  tagTtl: value(duration()).optional().describe('`cache.tagTtl` for this upstream.'),
  staleWhileRevalidate: value(duration()).optional().describe('`cache.staleWhileRevalidate` for this upstream.'),
  staleIfError: value(duration()).optional().describe('`cache.staleIfError` for this upstream.'),
  negativeTtl: value(duration()).optional().describe('`cache.negativeTtl` for this upstream.'),
};

const tagRuleSchema = z.strictObject({
  match: value(tagPattern).describe('The tags it is for: `*` stands for any characters, as in `v*.*.*`.'),
  repositories: z
    .array(value(repositoryPattern))
    .min(1)
    .optional()
    .describe('Only in these repositories of the upstream, written as in `repositories.allow`. Default: in all.'),
  tagTtl: value(duration()).optional().describe("The upstream's `tagTtl`, for these tags."),
  staleWhileRevalidate: value(duration()).optional().describe("The upstream's `staleWhileRevalidate`, for these tags."),
  staleIfError: value(duration()).optional().describe("The upstream's `staleIfError`, for these tags."),
});

const authSchema = z.strictObject({
  username: value(text('a user name')).optional().describe('User name; goes with one of the three passwords.'),
  password: value(secret).optional().describe('The password or access token itself.'),
  passwordFile: value(path).optional().describe('A file that holds the password; a line end after it is ignored.'),
  passwordEnv: value(text('the name of an environment variable'))
    .optional()
    .describe('The environment variable that holds the password.'),
  dockerConfig: value(path)
    .optional()
    .describe("A Docker `config.json` whose `auths` hold this upstream's credentials; stands alone."),
});

const upstreamTlsSchema = z.strictObject({
  caFile: value(path)
    .optional()
    .describe('Certificates (PEM) of authorities to trust for this upstream beside those of the system.'),
  certFile: value(path).optional().describe('Client certificate (PEM) shown to this upstream.'),
  keyFile: value(path).optional().describe('Private key (PEM) of that certificate.'),
  insecureSkipVerify: value(flag)
    .prefault(false)
    .describe(
      'Accept any certificate from this upstream. Whoever can redirect its traffic can then read the credentials.',
    ),
});

const repositoriesSchema = z.strictObject({
  allow: z
    .array(value(repositoryPattern))
    .min(1)
    .prefault(['**'])
    .describe(
      'Repositories that may be pulled: `*` stands for anything within one part of the name, `**` for any number of parts.',
    ),
  deny: z
    .array(value(repositoryPattern))
    .prefault([])
    .describe('Repositories that may not, even where `allow` has them.'),
});

const upstreamTimeouts = {
  connect: value(duration({ minMs: 1, timer: true })),
  headers: value(duration({ minMs: 1, timer: true })),
  idle: value(duration({ minMs: 1, timer: true })),
  answer: value(duration({ minMs: 1, timer: true })),
};

const upstreamSchema = z.strictObject({
  urls: z
    .array(value(registryUrl))
    .min(1)
    .optional()
    .describe(
      'Where the registry answers, tried in order; http:// is used only where written. A path goes before `/v2/`, one that begins with `/v2/` is continued. Default: `https://` and the name.',
    ),
  aliases: z.array(value(hostName)).prefault([]).describe('Other names clients use for the same registry.'),
  hosts: z.array(value(hostName)).prefault([]).describe('Values of the request header `Host` that mean this upstream.'),
  auth: authSchema.optional().describe('Credentials for this upstream; absent: anonymous.'),
  tokenRealms: z
    .array(value(hostName))
    .prefault([])
    .describe("Hosts outside the upstream's own domain that may be given its credentials when they issue its tokens."),
  tls: upstreamTlsSchema.prefault({}).describe('TLS towards this upstream.'),
  ...freshnessOverrides,
  tags: z
    .array(tagRuleSchema)
    .prefault([])
    .describe('Times of their own for tags that a pattern matches; the first entry that matches decides.'),
  maxConnections: value(integer(1, 65_535))
    .prefault(32)
    .describe('Connections to one host of this upstream at a time for blobs, and as many again for everything small.'),
  connectionsPerBlob: value(integer(1, 8))
    .prefault(1)
    .describe(
      'Connections that one large blob is fetched with; more than 1 pays where the upstream gives each a share of its own.',
    ),
  rateLimitFloor: value(integer(0, 1_000_000_000))
    .prefault(0)
    .describe(
      'Pulls to leave unspent: when the upstream says that only so many remain, they go to what is not stored. 0: no floor.',
    ),
  repositories: repositoriesSchema.prefault({}).describe('Which of its repositories may be pulled.'),
  timeouts: z
    .strictObject({
      connect: upstreamTimeouts.connect.optional().describe('`timeouts.connect` for this upstream.'),
      headers: upstreamTimeouts.headers.optional().describe('`timeouts.headers` for this upstream.'),
      idle: upstreamTimeouts.idle.optional().describe('`timeouts.idle` for this upstream.'),
      answer: upstreamTimeouts.answer.optional().describe('`timeouts.answer` for this upstream.'),
    })
    .prefault({})
    .describe('Time limits of this upstream, where they differ.'),
});

const cacheSchema = z.strictObject({
  dir: value(text('the path of a folder'))
    .prefault('./data')
    .describe('Folder of the cache; made when missing. One process per folder.'),
  maxSize: value(size({ minBytes: 1 }))
    .prefault('100GiB')
    .describe(
      'Bytes of blobs the cache may take, those on their way included. What is pulled least goes first, image by image.',
    ),
  minFree: value(size())
    .prefault('5GiB')
    .describe(
      'Bytes of the file system to leave free, at most half of it. Where less is free, images are evicted until it is.',
    ),
  tagTtl: value(duration())
    .prefault('60s')
    .describe('How long a tag is served without asking the upstream what it points to; 0: always ask.'),
  staleWhileRevalidate: value(duration())
    .prefault('0s')
    .describe('How long past `tagTtl` a tag is still served at once, while the upstream is asked behind it.'),
  staleIfError: value(duration())
    .prefault('30d')
    .describe('How long past `tagTtl` it is still served when the upstream cannot answer.'),
  negativeTtl: value(duration()).prefault('10s').describe('How long "there is no such thing" is remembered.'),
  maxManifestSize: value(size({ minBytes: 1, maxBytes: 2 ** 30 }))
    .prefault('4MiB')
    .describe('Largest manifest taken from an upstream.'),
  memory: value(size()).prefault('64MiB').describe('Bytes of manifests and other small objects kept in memory.'),
  scrub: z
    .strictObject({
      every: value(duration())
        .prefault('30d')
        .describe('From the end of one round to the beginning of the next; 0: never.'),
      rate: value(size({ minBytes: 1024 }))
        .prefault('20MiB')
        .describe('Bytes that are read in a second at most.'),
    })
    .prefault({})
    .describe('All that is stored is read again once in a while; what was altered is set aside and fetched again.'),
  maxFills: value(integer(1, 65_535))
    .prefault(64)
    .describe('Blobs fetched from upstreams at a time; further ones wait, for as long as their clients may.'),
  pins: z
    .array(value(pinPattern))
    .prefault([])
    .describe(
      'Images that are never evicted, such as `docker.io/library/nginx:1.27`, `ghcr.io/org/*:v*` or `quay.io/**:*`: repositories as in `repositories.allow`, tags by pattern or version range, each whatever it comes to stand for.',
    ),
});

const configSchema = z.strictObject({
  listen: value(listenAddress)
    .prefault('127.0.0.1:5000')
    .describe('Address and port to serve on; `:5000` means every address, port 0 one the system chooses.'),
  tls: z
    .strictObject({
      certFile: value(path).describe('Certificate chain (PEM).'),
      keyFile: value(path).describe('Its private key (PEM).'),
      clientCaFile: value(path)
        .optional()
        .describe('Certificates (PEM) that client certificates must be signed by; asks clients for one.'),
    })
    .optional()
    .describe('Serve HTTPS; absent: plain HTTP.'),
  defaultUpstream: value(optionalHostName)
    .optional()
    .describe(
      'The upstream of a request that names none; `null`: such a request is refused. Default: docker.io where it is configured, else none.',
    ),
  cache: cacheSchema.prefault({}).describe('The cache on disk and how long its answers hold.'),
  offline: value(flag)
    .prefault(false)
    .describe('Never contact an upstream: what is stored is served whatever its age, the rest is not found.'),
  upstreams: z
    .record(z.string(), upstreamSchema)
    .optional()
    .describe(
      'The registries that may be pulled from, by name. A file that has this key replaces the default table; a name outside the table is never dialled.',
    ),
  prefetch: prefetchSchema
    .prefault([])
    .describe('Images that `serve` brings here on a schedule, one entry at a time, as `millpond fetch` does.'),
  redis: redisSchema
    .optional()
    .describe('The Redis through which several replicas act as one cache; absent: one process alone.'),
  cluster: clusterSchema.prefault({}).describe('How the replicas reach one another, and who keeps what.'),
  timeouts: z
    .strictObject({
      connect: upstreamTimeouts.connect
        .prefault('3s')
        .describe('For each of: resolving the name of an upstream, connecting, the TLS handshake.'),
      headers: upstreamTimeouts.headers
        .prefault('8s')
        .describe("For the headers of an upstream's answer, redirects included."),
      idle: upstreamTimeouts.idle
        .prefault('30s')
        .describe('For the next bytes of a body from an upstream, while bytes are wanted.'),
      answer: upstreamTimeouts.answer
        .prefault('10s')
        .describe('Whatever the upstreams do, a client has headers or an error within this.'),
      drain: value(duration({ timer: true }))
        .prefault('30s')
        .describe('How long running transfers may go on after SIGTERM.'),
      clientIdle: value(duration({ minMs: 1, timer: true }))
        .prefault('5m')
        .describe('A client that takes nothing of what waits for it is cut after this.'),
    })
    .prefault({})
    .describe('Time limits.'),
  log: z
    .strictObject({
      level: value(oneOf(logLevels)).prefault('info').describe('Least important messages that are written.'),
      format: value(oneOf(['json', 'text']))
        .prefault('json')
        .describe('One JSON object a line, or text for people.'),
    })
    .prefault({})
    .describe('The log.'),
});

/** A configuration as written, checked and with its defaults; units resolved, names not yet looked at together. */
export type ParsedConfig = z.output<typeof configSchema>;

/** One upstream of {@link ParsedConfig}. */
export type ParsedUpstream = z.output<typeof upstreamSchema>;

/** Checks data against the schema. */
export function parseConfig(data: unknown): { config: ParsedConfig } | { problems: readonly SchemaProblem[] } {
  const parsed = parseWith(configSchema, data, jsonSchema);
  return 'problems' in parsed ? parsed : { config: parsed.value };
}

/** An upstream about which nothing was written. */
export function emptyUpstream(): ParsedUpstream {
  return upstreamSchema.parse({});
}

/** The schema of a configuration file, for editors. */
export function jsonSchema(): SchemaNode & Readonly<Record<string, unknown>> {
  return { ...schemaOf(configSchema), title: 'Millpond configuration' };
}
