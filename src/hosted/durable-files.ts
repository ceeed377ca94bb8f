import { randomBytes } from 'node:crypto';
import { link, mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';

/** Only the user of the mirror reads what is private. */
const fileMode = 0o600;
const folderMode = 0o700;
/** Begins the names of files that are not finished; a start removes them. */
export const temporaryPrefix = '.new-';

/**
 * Writes a small file so that it is whole or not there, whatever happens: a new file, fsync, rename, fsync of the folder.
 * It survives a loss of power once this has resolved. @throws Error of the file system
 */
export async function putFile(path: string, content: string): Promise<void> {
  const folder = dirname(path);
  await makeFolder(folder);
  const temporary = join(folder, `${temporaryPrefix}${randomBytes(8).toString('hex')}`);
  try {
    await using handle = await open(temporary, 'wx', fileMode);
    await handle.writeFile(content);
    await handle.sync();
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncFolder(folder);
}

/** Moves a file that has been written and synced to where it belongs, durably. @throws Error of the file system */
export async function moveFile(from: string, to: string): Promise<void> {
  await makeFolder(dirname(to));
  await rename(from, to);
  await syncFolder(dirname(to));
}

/**
 * Gives a file a second name, durably; a file that is there already stays.
 * @returns whether the name is new. @throws Error of the file system
 */
export async function linkFile(from: string, to: string): Promise<boolean> {
  await makeFolder(dirname(to));
  let isNew = true;
  try {
    await link(from, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    isNew = false;
  }
  await syncFolder(dirname(to));
  return isNew;
}

/** Removes a file, durably. @returns whether it was there. @throws Error of the file system */
export async function removeFile(path: string): Promise<boolean> {
  try {
    await rm(path);
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
  await syncFolder(dirname(path));
  return true;
}

/** The text of a file; `undefined` where there is none. @throws Error of the file system */
export async function readText(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

/** The finished files and folders of a folder, in byte order; none where there is no folder. @throws Error of the file system */
export async function namesIn(folder: string): Promise<string[]> {
  try {
    const names = await readdir(folder);
    return names.filter((name) => !name.startsWith(temporaryPrefix)).toSorted(byBytes);
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

/** The size of a file in bytes; `undefined` where there is none. @throws Error of the file system */
export async function sizeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

/** Makes a folder and those above it, durably. @throws Error of the file system */
export async function makeFolder(folder: string): Promise<void> {
  const first = await mkdir(folder, { recursive: true, mode: folderMode });
  // Each new folder is an entry of the one above.
  for (let made = first === undefined ? undefined : folder; made !== undefined; made = dirname(made)) {
    await syncFolder(dirname(made));
    if (made === first) break;
  }
}

async function syncFolder(folder: string): Promise<void> {
  await using handle = await open(folder, 'r');
  await handle.sync();
}

export function isMissing(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' || code === 'ENOTDIR';
}

/** The order of the distribution-spec for tags ("lexical"), which the public suite reads as that of bytes. */
export function byBytes(one: string, other: string): number {
  return one < other ? -1 : one > other ? 1 : 0;
}
