import { z } from 'zod';
import { duration, integer, oneOf, originUrl, path, redisUrl, text } from './value-kinds.ts';
import { value } from './value-schema.ts';

const file = path('file');

/** The section `redis`. */
export const redisSchema = z.strictObject({
  url: value(redisUrl)
    .describe(
      'Such as `redis://127.0.0.1:6379`; `rediss://` for TLS, `redis+sentinel://host:port,…/name`, `redis+cluster://host:port,…`.',
    )
    .meta({ 'x-flag': '--redis', 'x-environment': 'MILLPOND_REDIS_URL' }),
  passwordFile: value(file).optional().describe('A file that holds the password, in place of one in the URL.'),
  sentinelUsername: value(text('a text'))
    .optional()
    .describe('With `redis+sentinel://`: the user that Sentinel is asked as; absent: the default one.'),
  sentinelPasswordFile: value(file)
    .optional()
    .describe('With `redis+sentinel://`: a file with the password that Sentinel asks for; absent: it asks for none.'),
  caFile: value(file)
    .optional()
    .describe('Certificates (PEM) of authorities to trust for Redis beside those of the system.'),
  keyPrefix: value(text('a text')).prefault('millpond:').describe('What every key begins with: one for each fleet.'),
});

/** The section `cluster`. */
export const clusterSchema = z.strictObject({
  advertise: value(originUrl)
    .optional()
    .describe('Where other replicas reach this one, such as `http://10.0.0.7:5000`. Default: the address of `listen`.')
    // Each replica's own, where all read one file.
    .meta({ 'x-environment': 'MILLPOND_ADVERTISE' }),
  secretFile: value(file)
    .optional()
    .describe('A file with the secret that the replicas share, at least 16 bytes; required with `redis`.'),
  placement: value(oneOf(['everywhere', 'sharded']))
    .prefault('everywhere')
    .describe('`everywhere`: each replica keeps what it serves. `sharded`: a blob is kept by `copies` of them.'),
  copies: value(integer(1, 16)).prefault(2).describe('How many replicas keep a blob with `sharded`.'),
  clockTolerance: value(duration({ minMs: 1_000, timer: true }))
    .prefault('60s')
    .describe('How far the clocks of two replicas may be apart; requests between them are refused beyond that.'),
});
