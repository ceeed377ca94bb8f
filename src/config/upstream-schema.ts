import { z } from 'zod';
import { freshness, overridesOf, tagTimes, upstreamTimeouts } from './times-schema.ts';
import {
  flag,
  hostName,
  integer,
  path,
  registryUrl,
  repositoryPattern,
  secret,
  tagPattern,
  text,
} from './value-kinds.ts';
import { value } from './value-schema.ts';

const file = path('file');

const tagRuleSchema = z.strictObject({
  match: value(tagPattern).describe('The tags it is for: `*` stands for any characters, as in `v*.*.*`.'),
  repositories: z
    .array(value(repositoryPattern))
    .min(1)
    .optional()
    .describe('Only in these repositories of the upstream, written as in `repositories.allow`. Default: in all.'),
  ...overridesOf(tagTimes, {
    inherits: 'upstreams.*',
    describe: (key) => `The upstream's \`${key}\`, for these tags.`,
  }),
});

const authSchema = z.strictObject({
  username: value(text('a user name')).optional().describe('User name; goes with one of the three passwords.'),
  password: value(secret).optional().describe('The password or access token itself.'),
  passwordFile: value(file).optional().describe('A file that holds the password; a line end after it is ignored.'),
  passwordEnv: value(text('the name of an environment variable'))
    .optional()
    .describe('The environment variable that holds the password.'),
  dockerConfig: value(file)
    .optional()
    .describe("A Docker `config.json` whose `auths` hold this upstream's credentials; stands alone."),
});

const tlsSchema = z.strictObject({
  caFile: value(file)
    .optional()
    .describe('Certificates (PEM) of authorities to trust for this upstream beside those of the system.'),
  certFile: value(file).optional().describe('Client certificate (PEM) shown to this upstream.'),
  keyFile: value(file).optional().describe('Private key (PEM) of that certificate.'),
  insecureSkipVerify: value(flag)
    .prefault(false)
    .describe(
      'Accept any certificate from this upstream. Anyone who can redirect its traffic can then read the credentials.',
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

/** One entry of the section `upstreams`. */
export const upstreamSchema = z.strictObject({
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
  tls: tlsSchema.prefault({}).describe('TLS towards this upstream.'),
  ...overridesOf(freshness, { inherits: 'cache', describe: (key) => `\`cache.${key}\` for this upstream.` }),
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
    .strictObject(
      overridesOf(upstreamTimeouts, {
        inherits: 'timeouts',
        describe: (key) => `\`timeouts.${key}\` for this upstream.`,
      }),
    )
    .prefault({})
    .describe('Time limits of this upstream, where they differ.'),
});

/** One upstream as written, checked and with its defaults. */
export type ParsedUpstream = z.output<typeof upstreamSchema>;
