import { access, chmod, constants, lstat, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

/** The parts of a cache directory that have to be private, and on one file system. */
interface Folders {
  readonly dir: string;
  readonly blobs: string;
  readonly ingest: string;
  readonly quarantine: string;
  readonly catalog: string;
}

/** Permissions of what is made below the cache directory: for its owner alone. */
export const privateFolder = 0o700;
export const privateFile = 0o600;

/**
 * Stored content may be private: only its owner may read it. Permissions that an earlier version has given are corrected.
 * A directory of another user, such as a volume that is shared by group, stays as it is.
 */
export async function keepPrivate(layout: Folders): Promise<void> {
  for (const folder of [layout.dir, layout.blobs, layout.ingest, layout.quarantine]) {
    const found = await stat(folder).catch(() => undefined);
    if (found === undefined || (found.mode & 0o077) === 0 || found.uid !== process.getuid?.()) continue;
    await chmod(folder, privateFolder).catch(() => undefined);
  }
  for (const suffix of ['', '-wal', '-shm']) await chmod(layout.catalog + suffix, privateFile).catch(() => undefined);
}

/** @throws Error in one sentence where a blob cannot be moved from one directory to the other: nothing could be kept */
export async function requireOneFileSystem({ dir, blobs, ingest, quarantine }: Folders): Promise<void> {
  const from = join(ingest, '.move');
  for (const folder of [join(blobs, 'sha256'), join(blobs, 'sha512'), quarantine]) {
    const to = join(folder, '.move');
    try {
      await writeFile(from, '', { mode: privateFile });
      await rename(from, to);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EXDEV') continue;
      throw new Error(
        `${folder} and ${ingest} are on different file systems, and blobs are moved from one to the other: keep all of ${dir} on one`,
        { cause: error },
      );
    } finally {
      await rm(from, { force: true }).catch(() => undefined);
      await rm(to, { force: true }).catch(() => undefined);
    }
  }
}

/** Why a directory could not be made. Node says ENOENT where the file system is read-only; then this says EROFS. */
export async function causeOf(path: string, error: unknown): Promise<unknown> {
  if ((error as NodeJS.ErrnoException).code !== 'ENOENT') return error;
  let parent = dirname(path);
  while (parent !== dirname(parent) && (await lstat(parent).catch(() => undefined)) === undefined) {
    parent = dirname(parent);
  }
  const refusal = await access(parent, constants.W_OK).then(
    () => undefined,
    (refused: NodeJS.ErrnoException) => refused,
  );
  return refusal?.code === 'EROFS' ? refusal : error;
}
