import { read as readCallback } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { DiskFault } from './blob-store.ts';

/**
 * Reads from a file at a position.
 * @throws DiskFault, also if the file has become shorter
 */
export function readAt(
  handle: FileHandle,
  buffer: Buffer,
  { position, length }: { position: number; length: number },
): Promise<number> {
  // The callback form costs a third of FileHandle.read, and this is the inner loop of every transfer.
  return new Promise((resolve, reject) => {
    readCallback(handle.fd, buffer, 0, length, position, (error, count) => {
      if (error) reject(new DiskFault('read a blob', error));
      else if (count === 0 && length > 0)
        reject(new DiskFault('read a blob', new Error('the file is shorter than it was')));
      else resolve(count);
    });
  });
}
