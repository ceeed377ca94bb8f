import type { Archive } from '../../archive/archive.ts';
import type { ArchivedBlob } from '../../archive/archived-content.ts';
import { type Digest, digestAlgorithm, finishDigest, hasherFor } from '../../oci/digest.ts';
import type { Operations } from '../protocol/operations.ts';
import { firstOf } from './asking.ts';

/** The cache that an archive is imported into. */
export interface ImportRun {
  readonly operations: Operations;
  readonly archive: Digest;
  readonly signal: AbortSignal;
}

/** Hashes blobs that need not be sent: that an archive has a file by the right name proves nothing. */
export async function* hashed(
  archive: Archive,
  blobs: readonly ArchivedBlob[],
  signal: AbortSignal,
): AsyncGenerator<{ readonly digest: Digest; readonly isRight: boolean }> {
  for await (const { blob, body } of bodiesOf(archive, blobs)) {
    const hash = hasherFor(blob.digest);
    for await (const chunk of body) {
      signal.throwIfAborted();
      hash.update(chunk);
    }
    yield { digest: blob.digest, isRight: finishDigest(digestAlgorithm(blob.digest), hash) === blob.digest };
  }
}

/** The result for a blob that was sent. */
export interface SentBlob {
  readonly blob: ArchivedBlob;
  /** Whether the cache has hashed all its bytes: it has not where the blob has come another way meanwhile. */
  readonly isTaken: boolean;
  /** One sentence, where its bytes do not match its digest. */
  readonly wrong?: string;
}

/** Sends blobs to the cache. @param options `image`: a name that needs them; `onBytes`: receives the number of bytes as they are sent */
export async function* send(
  archive: Archive,
  { operations, signal }: ImportRun,
  { blobs, image, onBytes }: { blobs: readonly ArchivedBlob[]; image: string; onBytes: (bytes: number) => void },
): AsyncGenerator<SentBlob> {
  async function* counted(body: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const chunk of body) {
      signal.throwIfAborted();
      onBytes(chunk.length);
      yield chunk;
    }
  }
  for await (const { blob, body } of bodiesOf(archive, blobs)) {
    const { digest, size } = blob;
    const sent = operations.importBlob({ digest, size, name: image }, { signal, input: counted(body) });
    yield { blob, ...(await firstOf(sent)) };
  }
}

/** Goes through the contents of blobs, in the order of the archive, and again for those that share a file with another. */
async function* bodiesOf(
  archive: Archive,
  blobs: readonly ArchivedBlob[],
): AsyncGenerator<{ readonly blob: ArchivedBlob; readonly body: AsyncIterable<Buffer> }> {
  let left = blobs;
  while (left.length > 0) {
    const byFile = new Map<string, ArchivedBlob>();
    const later: ArchivedBlob[] = [];
    for (const blob of left) {
      if (typeof blob.from !== 'string') yield { blob, body: bytesOf(blob.from) };
      else if (byFile.has(blob.from)) later.push(blob);
      else byFile.set(blob.from, blob);
    }
    if (byFile.size > 0) {
      for await (const { name, body } of archive.visit(new Set(byFile.keys()))) yield { blob: byFile.get(name)!, body };
    }
    left = later;
  }
}

async function* bytesOf(bytes: Buffer): AsyncGenerator<Buffer> {
  yield Buffer.from(bytes);
}
