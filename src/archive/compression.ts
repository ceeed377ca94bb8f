import type { Transform } from 'node:stream';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { ArchiveError } from './archive-error.ts';

export type Compression = 'gzip' | 'zstd' | 'none';

/** Something is compressed in a way that is not read; the reason in words that follow its name. */
export class UnknownCompression extends ArchiveError {
  readonly reason: string;

  constructor(reason: string) {
    super(`it ${reason}`);
    this.reason = reason;
  }
}

/** Maximum ratio of unpacked to compressed size, above a free amount: real archives stay below it. */
const maxExpansion = 200;
const freeExpansionBytes = 1024 * 1024 * 1024;

/** The maximum size to which compressed bytes may unpack. */
export function maxUnpackedBytes(size: number): number {
  return freeExpansionBytes + maxExpansion * size;
}

/**
 * How bytes are compressed.
 * @param start at least the first six bytes, if there are that many
 * @throws UnknownCompression
 */
export function compressionOf(start: Buffer): Compression {
  const hex = start.toString('hex', 0, 6);
  if (hex.startsWith('1f8b')) return 'gzip';
  // What compresses in parallel begins with a frame that is to be skipped (RFC 8878, 3.1.2).
  if (hex.startsWith('28b52ffd') || /^5[0-9a-f]2a4d18/.test(hex)) return 'zstd';
  if (hex === 'fd377a585a00' || hex.startsWith('425a68')) {
    throw new UnknownCompression('is compressed with xz or bzip2: unpack it first');
  }
  return 'none';
}

/** Takes compressed bytes and gives what they unpack to. */
export function decompressor(compression: 'gzip' | 'zstd'): Transform {
  return compression === 'gzip' ? createGunzip() : createZstdDecompress();
}

/** Why compressed bytes cannot be unpacked, in words that follow the name of what they are. */
export function unpackFailure(error: unknown): string {
  // A decoder holds a window of its output: 128 MiB is the maximum of zstd by default.
  return (error as NodeJS.ErrnoException).code === 'ZSTD_error_frameParameter_windowTooLarge'
    ? 'has a zstd window that is too large: compress it with --long=27 or less'
    : 'is damaged or cut short';
}
