import { type FileHandle, open } from 'node:fs/promises';
import { type Digest, digestAlgorithm, finishDigest, hasherFor } from '../../oci/digest.ts';
import type { Layout } from './layout.ts';
import { readFlags } from './plain-file.ts';

const chunkBytes = 1024 * 1024;

/**
 * Reads a blob of a cache directory that another process may own, without writing. A chunk is valid until the next one is
 * requested; the data counts only if the end is reached.
 * @param places where it may be, in the order in which to look
 * @throws Error in one sentence if the blob is not stored any more, or does not match its digest and size
 */
export async function* readVerified(
  places: readonly Pick<Layout, 'blob'>[],
  { digest, size }: { digest: Digest; size: number },
): AsyncGenerator<Buffer, void, undefined> {
  const hash = hasherFor(digest);
  const buffer = Buffer.allocUnsafe(Math.min(size, chunkBytes));
  let position = 0;
  try {
    await using handle = await openFirst(places.map((place) => place.blob(digest)));
    const found = await handle.stat();
    if (found.size !== size) throw new Error(`${digest} has ${found.size} bytes in the cache instead of ${size}`);
    while (position < size) {
      const { bytesRead } = await handle.read(buffer, 0, Math.min(buffer.length, size - position), position);
      if (bytesRead === 0) throw new Error(`${digest} has become shorter in the cache`);
      position += bytesRead;
      const chunk = buffer.subarray(0, bytesRead);
      hash.update(chunk);
      yield chunk;
    }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') throw new Error(`${digest} is not in the cache any more: run it again`, { cause: error });
    throw code === undefined ? error : new Error(`${digest} cannot be read: ${code}`, { cause: error });
  }
  const actual = finishDigest(digestAlgorithm(digest), hash);
  if (actual !== digest)
    throw new Error(`${digest} has been altered in the cache: "millpond verify --repair" mends it`);
}

/** @throws Error of the file system; ENOENT where none of the files is there */
async function openFirst([path = '', ...others]: readonly string[]): Promise<FileHandle> {
  try {
    return await open(path, readFlags);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || others.length === 0) throw error;
    return await openFirst(others);
  }
}
