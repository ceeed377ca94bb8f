import { statSync } from 'node:fs';
import { statfs } from 'node:fs/promises';

/** The file system that the cache is on, in bytes. */
export interface FileSystem {
  readonly totalBytes: number;
  readonly freeBytes: number;
}

/** The file system of a folder. */
export async function fileSystemOf(dir: string): Promise<FileSystem | undefined> {
  const found = await statfs(dir).catch(() => undefined);
  return found && { totalBytes: found.blocks * found.bsize, freeBytes: found.bavail * found.bsize };
}

/** Which file is at a path now; `undefined` where there is none. @throws the system's error where that cannot be told */
export function inodeOf(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.ino;
}
