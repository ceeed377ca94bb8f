import { z } from 'zod';
import { integer, oneOf } from './value-kinds.ts';
import { value } from './value-schema.ts';

/** How answers leave. */
export const serveSchema = z.strictObject({
  threads: value(integer(1, 64))
    .prefault(1)
    .describe(
      'Threads that answer what is stored, beside the main one; 1: the main one answers by itself. With `tls` the main one always does.',
    ),
  sendfile: value(oneOf(['auto', 'off', 'nginx']))
    .prefault('auto')
    .describe(
      'How bodies leave: `auto`: by sendfile(2) where the connection is plain and the file is in memory; `off`: read and written; `nginx`: stored blobs over 64 KiB are answered with `X-Accel-Redirect`, and an nginx in front sends the file. Only for a mirror that clients reach through such an nginx: see deploy/nginx/sendfile.conf.',
    ),
});
