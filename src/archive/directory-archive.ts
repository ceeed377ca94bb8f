import { constants, type Dirent } from 'node:fs';
import { lstat, open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Archive, ArchivedFile } from './archive.ts';
import { ArchiveError, shownName } from './archive-error.ts';
import { maxEntries } from './limits.ts';

const chunkBytes = 64 * 1024;
/** Files that say at the top of a folder that it is one image layout, or one image. */
const lists = ['index.json', 'manifest.json'];
/** `skopeo sync` makes a folder for each part of an image's name. */
const maxDepth = 16;

/**
 * Opens images that lie in a folder: an image layout (image-spec, "OCI Image Layout"), the folder of one image as
 * skopeo's `dir:` makes it, or a folder of such folders. Links are followed for blobs alone, whose digests say what they
 * have to be.
 * @throws ArchiveError
 */
export async function openDirectory(path: string): Promise<Archive> {
  const files = new Map<string, number>();
  const unreadable = new Map<string, string>();
  for await (const name of namesIn(path)) {
    const isBlob = /(?:^|\/)blobs\/[^/]+\/[^/]+$/.test(name);
    const found = await (isBlob ? stat : lstat)(join(path, name)).catch(() => undefined);
    if (found?.isFile()) files.set(name, found.size);
    else if (found === undefined) unreadable.set(name, 'is a link that leads nowhere');
    else unreadable.set(name, found.isSymbolicLink() ? 'is a link' : 'is not a file');
    if (files.size > maxEntries) throw new ArchiveError(`it has more than ${maxEntries} files`);
  }
  return {
    files,
    unreadable,
    resolve: (name) => (files.has(name) ? name : undefined),
    isNear: () => true,
    async *visit(wanted) {
      for (const [name, size] of files) if (wanted.has(name)) yield* fileIn(path, name, size);
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/** Of a layout its lists and blobs; of a folder of one image its files; else what is in the folders below. */
async function* namesIn(path: string, within = '', depth = 0): AsyncGenerator<string> {
  if (depth > maxDepth) return;
  const entries = await entriesOf(join(path, within));
  const isTop = entries.some(({ name }) => lists.includes(name));
  for (const entry of entries) {
    const name = `${within}${entry.name}`;
    if (!entry.isDirectory()) {
      if (isTop || within !== '') yield name;
    } else if (!isTop || entry.name === 'blobs' || !entries.some((other) => other.name === 'index.json')) {
      yield* namesIn(path, `${name}/`, depth + 1);
    }
  }
}

async function entriesOf(path: string): Promise<Dirent[]> {
  try {
    return await readdir(path, { withFileTypes: true });
  } catch (error) {
    throw new ArchiveError(`${path} cannot be read: ${(error as NodeJS.ErrnoException).code}`, { cause: error });
  }
}

async function* fileIn(path: string, name: string, size: number): AsyncGenerator<ArchivedFile> {
  const flags = /(?:^|\/)blobs\//.test(name) ? constants.O_RDONLY : constants.O_RDONLY | constants.O_NOFOLLOW;
  await using handle = await open(join(path, name), flags).catch((error: NodeJS.ErrnoException) => {
    throw new ArchiveError(`${shownName(name)} in it cannot be read: ${error.code}`, { cause: error });
  });
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
