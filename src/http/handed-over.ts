import type { BlobReply } from '../mirror/blobs.ts';
import { digestAlgorithm, digestHex } from '../oci/digest.ts';
import { blobReply, type Conditions } from './replies.ts';
import type { Reply } from './send.ts';

/** Where an nginx in front reads the files of `blobs/`: its `internal` location, as in deploy/nginx/sendfile.conf. */
const place = '/_millpond_blobs';

/** The header by which nginx says that it could not read the file: the body then comes from here. */
export const sendfileHeader = 'millpond-sendfile';

/** Headers that nginx derives from the file, and adds. */
const ofTheFile: ReadonlySet<string> = new Set(['Accept-Ranges', 'Content-Length']);

/**
 * The answer by which an nginx in front sends a stored blob from its file. It has no body and always says 200: nginx
 * applies `Range` and `If-Range` itself.
 * @param decided the answer with the body
 * @returns `decided` where there is no body, or it does not come from a file of `blobs/`
 */
export function handedOver(decided: Reply, blob: BlobReply, conditions: Conditions): Reply {
  const { kind } = decided.content;
  if (blob.outcome !== 'hit' || blob.file === undefined || (kind !== 'body' && kind !== 'parts')) return decided;
  const { headers } = blobReply(blob, { ...conditions, range: undefined });
  const kept: string[] = [];
  for (let at = 0; at < headers.length; at += 2) {
    if (!ofTheFile.has(headers[at]!)) kept.push(headers[at]!, headers[at + 1]!);
  }
  const path = `${place}/${digestAlgorithm(blob.digest)}/${digestHex(blob.digest)}`;
  kept.push('X-Accel-Redirect', path, 'Content-Length', '0');
  return { status: 200, headers: kept, content: { kind: 'none' } };
}
