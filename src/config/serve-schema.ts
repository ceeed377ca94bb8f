import { z } from 'zod';
import { integer, oneOf, orAuto } from './value-kinds.ts';
import { value } from './value-schema.ts';

/** How answers leave. */
export const serveSchema = z.strictObject({
  threads: value(orAuto(integer(1, 64)))
    .prefault('auto')
    .describe(
      'Threads that answer what is stored, beside the main one; 1: the main one answers by itself. `auto`: as many as there are cores, at most 4; 1 with `hold`, and with `auth` where certificates or addresses decide, because each request is decided then. With `tls.clientCaFile` the main one always answers.',
    ),
  sendfile: value(oneOf(['auto', 'off', 'nginx']))
    .prefault('auto')
    .describe(
      'How bodies leave: `auto`: by sendfile(2) where the connection is plain and the file is in memory; `off`: read and written; `nginx`: stored blobs over 64 KiB are answered with `X-Accel-Redirect`, and an nginx in front sends the file. Only for a mirror that clients reach through such an nginx: see deploy/nginx/sendfile.conf.',
    ),
});
