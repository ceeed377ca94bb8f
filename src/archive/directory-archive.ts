import { constants } from 'node:fs';
import { lstat, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Archive, ArchivedFile } from './archive.ts';
import { ArchiveError, shownName } from './archive-error.ts';

const chunkBytes = 64 * 1024;

/**
 * Opens an image layout that lies in a folder (image-spec, "OCI Image Layout"), as umoci and skopeo's `oci:` make it.
 * Only what belongs to a layout is looked at, and no link is followed.
 * @throws ArchiveError
 */
export async function openDirectory(path: string): Promise<Archive> {
  const names = ['oci-layout', 'index.json', 'millpond.json'];
  for (const algorithm of ['sha256', 'sha512']) {
    const found = await readdir(join(path, 'blobs', algorithm)).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return [];
      throw new ArchiveError(`${path} cannot be read: ${error.code}`, { cause: error });
    });
    names.push(...found.map((name) => `blobs/${algorithm}/${name}`));
  }
  const files = new Map<string, number>();
  for (const name of names) {
    const found = await lstat(join(path, name)).catch(() => undefined);
    if (found === undefined) continue;
    if (!found.isFile()) throw new ArchiveError(`${shownName(name)} in it is not a file`);
    files.set(name, found.size);
  }
  return {
    files,
    resolve: (name) => (files.has(name) ? name : undefined),
    async *visit(wanted) {
      for (const [name, size] of files) if (wanted.has(name)) yield* fileIn(path, name, size);
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

async function* fileIn(path: string, name: string, size: number): AsyncGenerator<ArchivedFile> {
  await using handle = await open(join(path, name), constants.O_RDONLY | constants.O_NOFOLLOW);
  async function* body(): AsyncGenerator<Buffer, void, undefined> {
    for (let position = 0; position < size; ) {
      const buffer = Buffer.allocUnsafe(Math.min(size - position, chunkBytes));
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, position);
      if (bytesRead === 0) throw new ArchiveError(`${shownName(name)} in it has become shorter`);
      position += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  }
  yield { name, size, body: body() };
}
