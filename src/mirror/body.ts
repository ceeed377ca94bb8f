import type { Loan } from '../memory/slabs.ts';
import type { StoredBlob } from '../store/files/blob-store.ts';

/** The content of an answer: read at the client's pace, released when the client has it or has disconnected. */
export interface BlobBody extends AsyncDisposable {
  /** The whole content, if it is in memory; {@link read} is then not needed. */
  readonly bytes: Buffer | undefined;
  /**
   * Reads into `buffer` from `position` on, waiting until at least one byte may be sent.
   * @returns bytes read; 0 at the end of the blob
   * @throws RegistryError, DiskFault; the signal's reason
   */
  read(buffer: Buffer, position: number, signal: AbortSignal | undefined): Promise<number>;
  /** Whether the headers that were given for it have proved wrong: another one has to be asked for. */
  readonly isOutdated?: boolean;
  /** Bytes from `position` on that are in memory and may be sent as they are, until they are disposed of. */
  peek(position: number): Loan | undefined;
  /** Resolves when {@link peek} may have more, or {@link read} is to be called; absent: always. @throws the signal's reason */
  arrival?(position: number, signal: AbortSignal | undefined): Promise<void>;
}

/** A blob on disk as a body. */
export function storedBody(blob: StoredBlob): BlobBody {
  return {
    bytes: blob.bytes,
    read: (buffer, position) => (position >= blob.size ? Promise.resolve(0) : blob.read(buffer, position)),
    peek: () => undefined,
    [Symbol.asyncDispose]: () => blob[Symbol.asyncDispose](),
  };
}
