import { constants, type Stats } from 'node:fs';

/** Flags for opening a file to read: if a pipe is in its place, the open does not wait for a writer. */
export const readFlags = constants.O_RDONLY | constants.O_NONBLOCK;

/** Whether it is a pipe, a device or similar, which cannot be read like a file. Reading a directory fails by itself. */
export function isOdd(stats: Stats): boolean {
  return !stats.isFile() && !stats.isDirectory();
}
