import { constants, type Stats } from 'node:fs';

/** How a file is opened that is to be read: where a pipe lies in its place, nobody waits for whoever might write into it. */
export const readFlags = constants.O_RDONLY | constants.O_NONBLOCK;

/** Whether it is a pipe, a device or the like, which cannot be read as a file can. A folder says so itself when it is read. */
export function isOdd(stats: Stats): boolean {
  return !stats.isFile() && !stats.isDirectory();
}
