import { z } from 'zod';
import { duration, integer, oneOf, originUrl, path, redisUrl, text } from './value-kinds.ts';
import { value } from './value-schema.ts';

const file = path('file');

/** The section `redis`. */
export const redisSchema = z.strictObject({
  url: value(redisUrl)
    .describe(
      'Address, such as `redis://127.0.0.1:6379`; `rediss://` for TLS, `redis+sentinel://host:port,…/name`, `redis+cluster://host:port,…`.',
    )
    .meta({ 'x-flag': '--redis', 'x-environment': 'MILLPOND_REDIS_URL' }),
  passwordFile: value(file).optional().describe('A file with the password, instead of one in the URL.'),
  sentinelUsername: value(text('a text'))
    .optional()
    .describe('With `redis+sentinel://`: the user for Sentinel. Default: the default user.'),
  sentinelPasswordFile: value(file)
    .optional()
    .describe('With `redis+sentinel://`: a file with the password for Sentinel. Default: none.'),
  caFile: value(file).optional().describe('Authorities (PEM) to trust for Redis, in addition to the default ones.'),
  keyPrefix: value(text('a text'))
    .prefault('millpond:')
    .describe('Prefix of every key; each group of replicas needs its own.'),
});

/** The section `cluster`. */
export const clusterSchema = z.strictObject({
  advertise: value(originUrl)
    .optional()
    .describe(
      'Address where other replicas reach this one, such as `http://10.0.0.7:5000`. Default: the address of `listen`.',
    )
    // Each replica's own, where all read one file.
    .meta({ 'x-environment': 'MILLPOND_ADVERTISE' }),
  secretFile: value(file)
    .optional()
    .describe('A file with the secret that all replicas share, at least 16 bytes; required with `redis`.'),
  placement: value(oneOf(['everywhere', 'sharded']))
    .prefault('everywhere')
    .describe('`everywhere`: each replica keeps what it serves. `sharded`: `copies` of the replicas keep a blob.'),
  copies: value(integer(1, 16)).prefault(2).describe('How many replicas keep a blob with `sharded`.'),
  clockTolerance: value(duration({ minMs: 1_000, timer: true }))
    .prefault('60s')
    .describe('Maximum difference between the clocks of two replicas; requests between them are refused beyond it.'),
});
