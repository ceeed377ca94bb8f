import { statSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import type { Marks } from './eviction-policy.ts';

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

/** By how much less is free than should be, in bytes; at or below 0 where enough is, or it cannot be told. */
export function lackOfFree(found: FileSystem | undefined, minFreeBytes: number, mark: keyof Marks): number {
  if (found === undefined) return 0;
  // Of a file system that is smaller than what should be free, half is the cache's all the same.
  const wanted = Math.min(minFreeBytes, found.totalBytes / 2);
  const margin = mark === 'low' ? Math.min(wanted / 20, 1024 * 1024 * 1024) : 0;
  return wanted + margin - found.freeBytes;
}
