import { statSync } from 'node:fs';
import { statfs } from 'node:fs/promises';

/** The file system of the cache, in bytes. */
export interface FileSystem {
  readonly totalBytes: number;
  readonly freeBytes: number;
}

/** The file system of a directory. */
export async function fileSystemOf(dir: string): Promise<FileSystem | undefined> {
  const found = await statfs(dir).catch(() => undefined);
  return found && { totalBytes: found.blocks * found.bsize, freeBytes: found.bavail * found.bsize };
}

/** The identity of the file at a path; `undefined` if there is none. @throws the system's error if that is unknown */
export function inodeOf(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.ino;
}
