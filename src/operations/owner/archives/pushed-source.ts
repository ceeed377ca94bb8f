import type { Source } from '../../../mirror/fill/sources.ts';
import type { Digest } from '../../../oci/digest.ts';
import { RegistryError } from '../../../oci/error.ts';
import { octetStream } from '../../../oci/media-types.ts';

/** The name under which pushed bytes are counted, instead of an upstream's. */
export const importOrigin = 'import';

/**
 * Bytes that a command sends, as a source of a fill. They come once and from the start: bytes that the fill already has
 * are skipped, and a second attempt finds nothing.
 */
export function pushedSource({
  digest,
  size,
  body,
  repository,
}: {
  digest: Digest;
  size: number;
  body: AsyncIterable<Uint8Array>;
  repository: string;
}): Source & { readonly isRead: boolean } {
  let isUsed = false;
  let readBytes = 0;
  return {
    /** Whether all of the bytes have been taken. */
    get isRead() {
      return readBytes >= size;
    },
    id: `${importOrigin} ${digest}`,
    upstream: importOrigin,
    repository,
    connections: 1,
    open: () => {
      if (isUsed)
        return Promise.reject(
          new RegistryError('not-found', 'the bytes sent for this blob are used up', { code: 'BLOB_UNKNOWN' }),
        );
      isUsed = true;
      return Promise.resolve({
        size,
        start: 0,
        end: size,
        contentType: octetStream,
        body: asBody(body, (bytes) => (readBytes += bytes)),
      });
    },
  };
}

function asBody(
  bytes: AsyncIterable<Uint8Array>,
  onRead: (bytes: number) => void,
): AsyncIterable<Buffer> & { destroy(): void } {
  const chunks = bytes[Symbol.asyncIterator]();
  return {
    async *[Symbol.asyncIterator]() {
      while (true) {
        const { done, value } = await chunks.next();
        if (done === true) return;
        onRead(value.length);
        yield Buffer.from(value.buffer, value.byteOffset, value.byteLength);
      }
    },
    // The sender ends them.
    destroy() {},
  };
}
