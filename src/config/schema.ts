import { z } from 'zod';
import { authSchema } from './auth-schema.ts';
import { eventsSchema, holdSchema } from './events-schema.ts';
import { hostedSchema } from './hosted-schema.ts';
import { limitsSchema } from './limits-schema.ts';
import { listenersSchema, serverTlsSchema } from './listeners-schema.ts';
import { prefetchSchema } from './prefetch-schema.ts';
import { clusterSchema, redisSchema } from './replicas-schema.ts';
import type { SchemaNode, SchemaProblem } from './schema-node.ts';
import { serveSchema } from './serve-schema.ts';
import { freshness, upstreamTimeouts } from './times-schema.ts';
import { type ParsedUpstream, upstreamSchema } from './upstream-schema.ts';
import {
  duration,
  flag,
  integer,
  listenAddress,
  oneOf,
  optionalHostName,
  path,
  pinPattern,
  size,
} from './value-kinds.ts';
import { parseWith, schemaOf, value } from './value-schema.ts';

const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
const file = path('file');

const cacheSchema = z.strictObject({
  dir: atStart(
    value(path('folder'))
      .prefault('./data')
      .describe('Directory of the cache; created if it is missing. One process per directory.'),
  ).meta({ 'x-flag': '--cache-dir', 'x-environment': 'MILLPOND_CACHE_DIR' }),
  maxSize: value(size({ minBytes: 1 }))
    .prefault('100GiB')
    .describe(
      'Maximum size of the cached blobs, including downloads in progress. The least-used images are evicted first, whole.',
    ),
  minFree: value(size())
    .prefault('5GiB')
    .describe('Space to leave free on the file system, at most half of it. Images are evicted until it is free.'),
  ...freshness,
  maxManifestSize: value(size({ minBytes: 1, maxBytes: 2 ** 30 }))
    .prefault('4MiB')
    .describe('Maximum size of a manifest from an upstream.'),
  maxBlobSize: value(size({ minBytes: 1 }))
    .prefault('50GiB')
    .describe('Maximum size of a blob from an upstream: nothing larger is fetched or kept.'),
  memory: atStart(value(size()).prefault('64MiB').describe('Memory for manifests and other small objects.')),
  scrub: z
    .strictObject({
      every: value(duration())
        .prefault('30d')
        .describe('Time between the end of one round and the start of the next; 0: never.'),
      rate: value(size({ minBytes: 1024, unit: 'BytesPerSecond' }))
        .prefault('20MiB')
        .describe('Maximum bytes read per second.'),
    })
    .prefault({})
    .describe('Periodic verification of stored blobs; altered ones are set aside and fetched again.'),
  maxFills: value(integer(1, 65_535))
    .prefault(64)
    .describe('Maximum concurrent blob downloads; further ones wait as long as `timeouts.answer` allows.'),
  pins: z
    .array(value(pinPattern))
    .prefault([])
    .describe(
      'Images that are never evicted, such as `docker.io/library/nginx:1.27`, `ghcr.io/org/*:v*` or `quay.io/**:*`: repositories as in `repositories.allow`, tags by pattern or version range. A tag stays pinned when it moves.',
    ),
});

const timeoutsSchema = z.strictObject({
  ...upstreamTimeouts,
  drain: value(duration({ timer: true }))
    .prefault('30s')
    .describe('How long running transfers may continue after SIGTERM.'),
  clientIdle: value(duration({ minMs: 1, timer: true }))
    .prefault('5m')
    .describe('A client that reads nothing of the bytes waiting for it is disconnected after this time.'),
});

const logSchema = z.strictObject({
  level: value(oneOf(logLevels))
    .prefault('info')
    .describe('Lowest level of messages that are written.')
    .meta({ 'x-flag': '--log-level', 'x-environment': 'MILLPOND_LOG_LEVEL' }),
  format: atStart(
    value(oneOf(['json', 'text']))
      .prefault('json')
      .describe('One JSON object per line, or text for people.'),
  ),
  auditFile: atStart(
    value(file)
      .optional()
      .describe(
        'A file for refusals and changes (who, what, when), one JSON object per line. Default: they are in the log, with `"msg":"audit"`.',
      ),
  ),
});

const configSchema = z.strictObject({
  listen: atStart(
    value(listenAddress)
      .prefault('127.0.0.1:5000')
      .describe(
        'Address and port to listen on; `:5000` means every address, and port 0 a port that the system chooses.',
      ),
  ).meta({ 'x-flag': '--listen', 'x-environment': 'MILLPOND_LISTEN' }),
  tls: atStart(serverTlsSchema.optional().describe('Serve HTTPS; absent: plain HTTP.')),
  listeners: atStart(listenersSchema.prefault({}).describe('Listeners of their own for what is not for clients.')),
  defaultUpstream: value(optionalHostName)
    .optional()
    .describe(
      'The upstream of a request that names none; `null`: such a request is refused. Default: docker.io if it is configured, else none.',
    ),
  cache: cacheSchema.prefault({}).describe('The cache on disk, and how long its contents are fresh.'),
  offline: atStart(
    value(flag)
      .prefault(false)
      .describe(
        'Never contact an upstream: stored content is served regardless of its age, everything else is not found.',
      ),
  ),
  upstreams: z
    .record(z.string(), upstreamSchema)
    .optional()
    .describe(
      'The registries that clients may pull from, by name. This key replaces the default table; a name outside the table is never contacted.',
    ),
  prefetch: prefetchSchema
    .prefault([])
    .describe('Images that `serve` fetches on a schedule, one entry at a time, as `millpond fetch` does.'),
  redis: atStart(
    redisSchema
      .optional()
      .describe('The Redis through which several replicas act as one cache; absent: a single replica.'),
  ),
  cluster: atStart(
    clusterSchema.prefault({}).describe('How replicas reach each other, and which of them keep a blob.'),
  ),
  hosted: hostedSchema.optional().describe('Repositories that live here alone; absent: this mirror takes no pushes.'),
  auth: authSchema
    .optional()
    .describe(
      'Who may do what; absent: anyone who can reach the port may pull what is configured, and push to `hosted`.',
    ),
  events: eventsSchema
    .prefault({})
    .describe('What happens to content: kept for streams that resume, and sent to receivers.'),
  hold: holdSchema
    .prefault([])
    .describe('Repositories whose new manifests wait for a scanner: they cannot be pulled until they are approved.'),
  limits: limitsSchema.prefault({}).describe('How much clients may take of this process, in all and each.'),
  serve: atStart(serveSchema.prefault({}).describe('How answers leave.')),
  timeouts: timeoutsSchema.prefault({}).describe('Time limits.'),
  log: logSchema.prefault({}).describe('The log.'),
});

/** A configuration as written, checked and with its defaults; units resolved, names not yet looked at together. */
export type ParsedConfig = z.output<typeof configSchema>;

/** Checks data against the schema. Top-level keys that begin with `x-` hold anchors for the rest, and are left out. */
export function parseConfig(data: object): { config: ParsedConfig } | { problems: readonly SchemaProblem[] } {
  const settings = Object.fromEntries(Object.entries(data).filter(([key]) => !key.startsWith('x-')));
  const parsed = parseWith(configSchema, settings, jsonSchema);
  return 'problems' in parsed ? parsed : { config: parsed.value };
}

/** An upstream about which nothing was written. */
export function emptyUpstream(): ParsedUpstream {
  return upstreamSchema.parse({});
}

/** The schema of a configuration file, with all that Millpond itself knows of a key. */
export function jsonSchema(): SchemaNode {
  return schemaOf(configSchema);
}

/** The schema of a configuration file, for editors: standard JSON Schema. */
export function editorSchema(): Readonly<Record<string, unknown>> {
  const text = JSON.stringify(jsonSchema(), (key, held: unknown) => (key.startsWith('x-') ? undefined : held));
  return {
    ...(JSON.parse(text) as object),
    title: 'Millpond configuration',
    patternProperties: { '^x-': { description: 'Anchors for the rest of the file; not read by themselves.' } },
  };
}

/** Marks what is only read at the start. */
function atStart<Schema extends z.ZodType>(schema: Schema): Schema {
  return schema.meta({ 'x-restart': true });
}
