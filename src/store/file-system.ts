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
