import { z } from 'zod';
import { signatureSchema } from './signature-schema.ts';
import { freshness, overridesOf, tagTimes, upstreamTimeouts } from './times-schema.ts';
import { authSchema } from './upstream-auth-schema.ts';
import { flag, hostName, integer, oneOf, path, registryUrl, repositoryPattern, tagPattern } from './value-kinds.ts';
import { value } from './value-schema.ts';

const file = path('file');

const tagRuleSchema = z.strictObject({
  match: value(tagPattern).describe('The tags that the rule applies to: `*` matches any characters, as in `v*.*.*`.'),
  repositories: z
    .array(value(repositoryPattern))
    .min(1)
    .optional()
    .describe('Only these repositories of the upstream, with the patterns of `repositories.allow`. Default: all.'),
  ...overridesOf(tagTimes, {
    inherits: 'upstreams.*',
    describe: (key) => `The upstream's \`${key}\`, for these tags.`,
  }),
});

const tlsSchema = z.strictObject({
  caFile: value(file)
    .optional()
    .describe('Authorities (PEM) to trust for this upstream, in addition to the default ones.'),
  certFile: value(file).optional().describe('Client certificate (PEM) for this upstream.'),
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
      'Repositories that may be pulled: `*` matches anything within one segment of the name, `**` any number of segments.',
    ),
  deny: z
    .array(value(repositoryPattern))
    .prefault([])
    .describe('Repositories that may not be pulled, even if `allow` lists them.'),
});

const traitsSchema = z.strictObject({
  manifestHead: value(oneOf(['trusted', 'unreliable']))
    .optional()
    .describe('Whether a HEAD of a manifest can save a GET.'),
  blobHead: value(oneOf(['trusted', 'unreliable']))
    .optional()
    .describe('The same for blobs.'),
  headLength: value(oneOf(['trusted', 'wrong']))
    .optional()
    .describe('Whether the length in the answer to a HEAD is that of the body.'),
  tokenScope: value(oneOf(['own', 'challenge']))
    .optional()
    .describe('The scope that tokens are requested for: that of the requested path, or the one in the challenge.'),
  challenge: value(oneOf(['in place', 'at /v2/']))
    .optional()
    .describe('Where the registry demands credentials: at each request that needs them, or only at `/v2/`.'),
});

/** One entry of the section `upstreams`. */
export const upstreamSchema = z.strictObject({
  urls: z
    .array(value(registryUrl))
    .min(1)
    .optional()
    .describe(
      'Addresses of the registry, tried in order; http:// is used only if it is written. A path is put before `/v2/`; one that begins with `/v2/` is continued. Default: `https://` and the name.',
    ),
  aliases: z.array(value(hostName)).prefault([]).describe('Other names that clients use for this registry.'),
  hosts: z
    .array(value(hostName))
    .prefault([])
    .describe('Values of the request header `Host` that select this upstream.'),
  auth: authSchema.optional().describe('Credentials for this upstream; absent: anonymous.'),
  additionalAuth: z
    .array(authSchema)
    .max(16)
    .prefault([])
    .describe(
      'Further credentials with the same rights. The one that was used least is sent; one that the registry limits or refuses rests while there are others.',
    ),
  access: value(oneOf(['proxy', 'caller']))
    .prefault('proxy')
    .describe(
      '`proxy`: the policies of this mirror decide. `caller`: callers show credentials of this upstream itself, which are sent to it and to no other, and it decides; requires `auth`.',
    ),
  tokenRealms: z
    .array(value(hostName))
    .prefault([])
    .describe("Hosts outside the upstream's own domain that issue its tokens and may receive its credentials."),
  tls: tlsSchema.prefault({}).describe('TLS towards this upstream.'),
  ...overridesOf(freshness, { inherits: 'cache', describe: (key) => `\`cache.${key}\` for this upstream.` }),
  signatures: z
    .array(signatureSchema)
    .prefault([])
    .describe('Which signatures images must carry; the first entry that matches a repository applies. Default: none.'),
  tags: z.array(tagRuleSchema).prefault([]).describe('Freshness rules for tags; the first rule that matches applies.'),
  maxConnections: value(integer(1, 65_535))
    .prefault(32)
    .describe(
      'Maximum connections to one host of this upstream for blobs, and as many again for everything else; requests that take longer than 2 s for a small answer count apart, up to four times as many.',
    ),
  connectionsPerBlob: value(integer(1, 8))
    .prefault(1)
    .describe(
      'Connections for one large blob; more than 1 is faster if the upstream limits the rate of each connection.',
    ),
  rateLimitFloor: value(integer(0, 1_000_000_000))
    .prefault(0)
    .describe(
      'Remaining pulls below which only content that is not stored spends pulls, if the upstream reports them. 0: no floor.',
    ),
  traits: traitsSchema
    .prefault({})
    .describe(
      'How the registry behaves. Millpond learns each of these by itself; a value here replaces what it would learn.',
    ),
  repositories: repositoriesSchema.prefault({}).describe('Which repositories of this upstream may be pulled.'),
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
